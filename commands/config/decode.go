package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"daosbox/cluster/fault"
)

// decoder fills structs from a tree. The yaml tags are the known keys; whatever
// does not fit is recorded and skipped, so that one pass finds everything.
type decoder struct {
	*problems
	source source
	// homes lists, for every key of the file, the levels that know it.
	homes map[string][]string
}

// decode fills into, a pointer to a struct with defaults in it, and returns where
// its values are.
func decode(p *problems, root *yaml.Node, into any) source {
	d := &decoder{
		problems: p,
		source:   source{file: p.file, at: map[string]Position{}, bad: map[string]bool{}},
		homes:    map[string][]string{},
	}
	// What the earlier steps complained about is not to be complained about again.
	for _, one := range p.list {
		d.source.bad[one.key] = true
	}
	v := reflect.ValueOf(into).Elem()
	collectHomes(v.Type(), "", d.homes)
	if root != nil {
		d.value(root, v, "")
	}
	return d.source
}

// wrong records a problem of the value at path.
func (d *decoder) wrong(n *yaml.Node, path, hint, format string, args ...any) {
	d.source.bad[path] = true
	d.add(position(n), fault.Config, path, hint, format, args...)
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	d.source.at[path] = position(n)
	if isNull(n) {
		return // as if the key were absent
	}
	if v.Kind() == reflect.Pointer {
		if v.Type() == reflect.TypeFor[*BusRange]() && n.Kind == yaml.ScalarNode && n.Value == "" {
			return // generated files of 2.2 to 2.4 have it empty
		}
		fresh := reflect.New(v.Type().Elem())
		d.value(n, fresh.Elem(), path)
		v.Set(fresh)
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, text, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.table(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) text(n *yaml.Node, into encoding.TextUnmarshaler, path string) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, "write a single value", "expected text, found %s", kindName(n))
		return
	}
	err := into.UnmarshalText([]byte(n.Value))
	if err == nil {
		return
	}
	var own *valueError
	if !errors.As(err, &own) {
		d.wrong(n, path, "", "%v", err)
		return
	}
	d.source.bad[path] = true
	d.add(position(n), cmp.Or(own.code, fault.Config), path, own.hint, "%s", own.why)
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "write \"key: value\" lines below it", "expected a mapping, found %s", kindName(n))
		return
	}
	fields := fieldsOf(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		index, ok := fields[key.Value]
		if !ok {
			d.unknown(key, fields, path)
			continue
		}
		d.value(value, v.Field(index), join(path, key.Value))
	}
}

// unknown records a key that this level does not have.
func (d *decoder) unknown(key *yaml.Node, fields map[string]int, path string) {
	if d.full() {
		return // the search for near keys takes time
	}
	names := sortedKeys(fields)
	hint, where := "", ""
	if path != "" {
		where = " here"
	}
	if homes := d.homes[key.Value]; len(homes) > 0 {
		hint = "it belongs " + strings.Join(homes, " or ")
	} else if near := Nearest(key.Value, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		d.source.bad[join(path, near)] = true // it only seems to be missing
	} else if near := Nearest(key.Value, sortedKeys(d.homes)); near != "" {
		hint = fmt.Sprintf("did you mean %q, which belongs %s?", near, strings.Join(d.homes[near], " or "))
	}
	d.wrong(key, join(path, key.Value), hint, "unknown key%s", where)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		hint := "write \"- item\" lines below it"
		if n.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf("write [%s]", n.Value)
		}
		d.wrong(n, path, hint, "expected a list, found %s", kindName(n))
		return
	}
	elem := v.Type().Elem()
	result := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for _, child := range n.Content {
		at := item(path, result.Len())
		switch {
		case !isNull(child):
		case elem == reflect.TypeFor[*Engine]():
			// An engine that says nothing must fail the rules, not vanish.
			d.source.at[at] = position(child)
			result = reflect.Append(result, reflect.ValueOf(&Engine{}))
			continue
		case elem.Kind() == reflect.Pointer:
			continue // not counted
		default:
			d.wrong(child, at, "remove it", "the list has an empty item")
			continue
		}
		fresh := reflect.New(elem).Elem()
		d.value(child, fresh, at)
		result = reflect.Append(result, fresh)
	}
	v.Set(result)
}

func (d *decoder) table(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, path, "write \"key: value\" lines below it", "expected a mapping, found %s", kindName(n))
		return
	}
	result := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		fresh := reflect.New(v.Type().Elem()).Elem()
		d.value(n.Content[i+1], fresh, join(path, key))
		result.SetMapIndex(reflect.ValueOf(key), fresh)
	}
	v.Set(result)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, "", "expected %s, found %s", wanted(v), kindName(n))
		return
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		length, err := time.ParseDuration(n.Value)
		if err != nil {
			d.wrong(n, path, "write a number and a unit, as in 90s, 5m or 1h30m", "%q is no length of time", n.Value)
			return
		}
		v.SetInt(int64(length))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		d.boolean(n, v, path)
	default:
		d.number(n, v, path)
	}
}

// boolean also accepts the words of YAML 1.1, which the files were written for.
func (d *decoder) boolean(n *yaml.Node, v reflect.Value, path string) {
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on", "y":
		v.SetBool(true)
	case "false", "no", "off", "n":
		v.SetBool(false)
	default:
		quoted = true
	}
	if quoted {
		d.wrong(n, path, "write true or false, without quotes", "expected true or false, found %q", n.Value)
	}
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string) {
	if n.ShortTag() != "!!int" {
		hint := ""
		if _, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			hint = "remove the quotes"
		}
		d.wrong(n, path, hint, "expected %s, found %q", wanted(v), n.Value)
		return
	}
	var err error
	if v.CanInt() {
		var i int64
		if i, err = strconv.ParseInt(n.Value, 0, v.Type().Bits()); err == nil {
			v.SetInt(i)
		}
	} else {
		var u uint64
		if u, err = strconv.ParseUint(n.Value, 0, v.Type().Bits()); err == nil {
			v.SetUint(u)
		}
	}
	if err != nil {
		d.wrong(n, path, "", "expected %s, found %s", wanted(v), n.Value)
	}
}

func wanted(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.String:
		return "text"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanUint():
		return fmt.Sprintf("a number from 0 to %d", ^uint64(0)>>(64-v.Type().Bits()))
	}
	return "a whole number"
}

// fieldsOf maps the keys of a struct to its field numbers.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

// collectHomes notes which levels below t know a key. Level "" is the top level.
func collectHomes(t reflect.Type, path string, homes map[string][]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		if t.Kind() == reflect.Slice {
			path += "[]"
		}
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return
	}
	home := "in " + path
	if path == "" {
		home = "at the top level"
	}
	for name, index := range fieldsOf(t) {
		homes[name] = append(homes[name], home)
		slices.Sort(homes[name])
		collectHomes(t.Field(index).Type, join(path, name), homes)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
