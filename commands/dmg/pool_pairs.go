package dmg

import (
	"strings"

	"daosbox/cluster/fault"
)

// maxKey and maxPairs bound key:value lists.
const (
	maxKey   = 511
	maxPairs = 1024
)

type pair struct{ key, value string }

// parsePairs reads "key:value,key:value". Quotes and backslashes keep what follows
// from being a separator; the first colon ends the key.
func parsePairs(text string) ([]pair, error) {
	var pairs []pair
	for _, part := range splitQuoted(text, ',') {
		fields := splitQuoted(part, ':')
		if len(fields) < 2 {
			return nil, badPairs(text, "%q has no value", brief(part))
		}
		key, err := plain(fields[0])
		if err != nil {
			return nil, err
		}
		value, err := plain(strings.Join(fields[1:], ":"))
		switch {
		case err != nil:
			return nil, err
		case key == "":
			return nil, badPairs(text, "a key is empty")
		case value == "":
			return nil, badPairs(text, "the value of %q is empty", brief(key))
		case len(key) > maxKey:
			return nil, badPairs(text, "a key has more than %d characters", maxKey)
		case len(pairs) == maxPairs:
			return nil, badPairs(text, "it has more than %d pairs", maxPairs)
		}
		pairs = append(pairs, pair{key, value})
	}
	return pairs, nil
}

// parseKeys reads "key,key"; an empty text means all and has none.
func parseKeys(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var keys []string
	for _, part := range splitQuoted(text, ',') {
		key, err := plain(part)
		if err != nil {
			return nil, err
		}
		if key == "" || len(key) > maxKey || len(keys) == maxPairs {
			return nil, badPairs(text, "a key is empty or too long, or there are too many").WithHint("write KEY,KEY")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func badPairs(text, why string, args ...any) *fault.Error {
	return fault.New(fault.Usage, "cannot read list %q: "+why, append([]any{brief(text)}, args...)...).
		WithHint("write KEY:VALUE,KEY:VALUE")
}

// splitQuoted cuts text at each separator outside of quotes that no backslash
// precedes; quotes and backslashes stay.
func splitQuoted(text string, separator byte) []string {
	var parts []string
	start := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == separator:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// plain takes quotes and backslashes out, and blanks round the rest.
func plain(text string) (string, error) {
	text = strings.TrimSpace(text)
	var out strings.Builder
	var quote byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case c == '\\':
			return "", badPairs(text, "it ends in a backslash")
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		default:
			out.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", badPairs(text, "a quote is not closed")
	}
	return out.String(), nil
}
