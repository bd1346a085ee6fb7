package dmg

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"daosbox/cluster/fault"
)

// maxNumber bounds the text of a number on the command line: the largest size has
// 20 digits, and nobody needs more than a few behind the point.
const maxNumber = 40

// unitLetters are the prefixes of units in rising order.
const unitLetters = "kmgtpe"

// unitFactor reads the unit of a size, in any case: powers of 1000, or with an i
// of 1024. Up to 0.9.0 plain units were powers of 1024, which nothing can tell.
func unitFactor(unit string) (*big.Int, bool) {
	unit = strings.TrimSuffix(strings.ToLower(unit), "b")
	base := int64(1000)
	if rest, binary := strings.CutSuffix(unit, "i"); binary {
		if unit, base = rest, 1024; unit == "" {
			return nil, false
		}
	}
	if unit == "" {
		return big.NewInt(1), true
	}
	power := strings.Index(unitLetters, unit)
	if len(unit) != 1 || power < 0 {
		return nil, false
	}
	return new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(power+1)), nil), true
}

// parseSize reads "512", "1.5 TiB", "100GB" as bytes, fractions of a byte cut off.
func parseSize(text string) (uint64, error) {
	bad := func(why string) (uint64, error) {
		return 0, fault.New(fault.Usage, "cannot read size %q: %s", brief(text), why).
			WithHint("write a number and a unit, such as 500GB (powers of 1000) or 512GiB (powers of 1024)")
	}
	text = strings.TrimSpace(text)
	end := 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.') {
		end++
	}
	number, unit := text[:end], strings.TrimSpace(text[end:])
	digits, decimals, ok := splitNumber(number)
	if !ok {
		return bad("it is no number")
	}
	factor, ok := unitFactor(unit)
	if !ok {
		return bad(fmt.Sprintf("unknown unit %q", brief(unit)))
	}
	value, _ := new(big.Int).SetString(digits, 10)
	value.Mul(value, factor)
	value.Quo(value, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil))
	if !value.IsUint64() {
		return bad("it is more than 16 EiB")
	}
	return value.Uint64(), nil
}

// splitNumber takes the point out of a decimal number.
func splitNumber(text string) (digits string, decimals int, ok bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	digits = whole + fraction
	if digits == "" || len(text) > maxNumber || strings.Contains(fraction, ".") {
		return "", 0, false
	}
	return digits, len(fraction), true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// brief is text fit for an error message.
func brief(text string) string {
	if text = fault.OneLine(text); len([]rune(text)) > 60 {
		return string([]rune(text)[:60]) + "…"
	}
	return text
}

// poolSize is the value of --size: a total in bytes, or a share of what is free.
type poolSize struct {
	Bytes   uint64
	Percent uint64 // 1 to 100; 0: Bytes counts
}

func parsePoolSize(text string) (poolSize, error) {
	number, isPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
	if !isPercent {
		bytes, err := parseSize(text)
		if err == nil && bytes == 0 {
			err = fault.New(fault.Usage, "cannot create a pool of size 0").WithHint("give --size a total, or a share of what is free such as 50%%")
		}
		return poolSize{Bytes: bytes}, err
	}
	percent, err := strconv.ParseUint(strings.TrimSpace(number), 10, 8)
	if err != nil || percent < 1 || percent > 100 {
		return poolSize{}, fault.New(fault.Usage, "cannot read size %q: a share is a whole number from 1%% to 100%%", brief(text)).
			WithHint("write a share such as 50%%, or a total such as 500GB")
	}
	return poolSize{Percent: percent}, nil
}

// ratio is a list of percentages in hundredths of a percent, which are exact.
type ratio []int

// whole is 100 %, and ratioSlack what a sum may miss it by.
const (
	whole      = 10000
	ratioSlack = 100
)

// parseRatio reads "6,94", "6%" (the rest goes to a second value) or "100".
func parseRatio(text string) (ratio, error) {
	bad := func(why string) (ratio, error) {
		return nil, fault.New(fault.Usage, "cannot read ratio %q: %s", brief(text), why).
			WithHint("write percentages that sum to 100, such as 6,94")
	}
	if len(text) > 10*maxNumber {
		return bad("it is too long")
	}
	var r ratio
	sum := 0
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(part), "%"))
		if _, _, ok := splitNumber(part); !ok {
			return bad(fmt.Sprintf("%q is no percentage", brief(part)))
		}
		value, err := strconv.ParseFloat(part, 64)
		if err != nil || strings.Trim(part, "0123456789.") != "" {
			return bad(fmt.Sprintf("%q is no percentage", brief(part)))
		}
		if value > 100 {
			return bad(fmt.Sprintf("%s is above 100", part))
		}
		r = append(r, int(math.Round(value*100)))
		sum += r[len(r)-1]
	}
	if len(r) == 1 && r[0] < whole {
		r, sum = append(r, whole-r[0]), whole
	}
	if sum < whole-ratioSlack || sum > whole+ratioSlack {
		return bad(fmt.Sprintf("the sum is %s", percent(sum)))
	}
	return r, nil
}

// fractions are the shares as parts of one, however the percentages were rounded.
func (r ratio) fractions() []float64 {
	sum := 0
	for _, part := range r {
		sum += part
	}
	parts := make([]float64, len(r))
	for i, part := range r {
		parts[i] = float64(part) / float64(sum)
	}
	return parts
}

func (r ratio) String() string {
	parts := make([]string, len(r))
	for i, part := range r {
		parts[i] = percent(part)
	}
	return strings.Join(parts, ",")
}

// ratioOf is the ratio that sizes have to each other.
func ratioOf(sizes []uint64) ratio {
	sum := 0.0
	for _, size := range sizes {
		sum += float64(size)
	}
	r := make(ratio, len(sizes))
	for i, size := range sizes {
		if sum > 0 {
			r[i] = int(math.Round(float64(size) / sum * whole))
		}
	}
	return r
}

func percent(hundredths int) string {
	return fmt.Sprintf("%d.%02d%%", hundredths/100, hundredths%100)
}
