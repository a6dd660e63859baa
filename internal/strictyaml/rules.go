package strictyaml

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules are the constraints in the tags of a field.
type Rules struct {
	Valid    string
	Enum     []string
	MaxItems int // items of a list; 0 is no limit
}

// RulesOf returns the rules in a field's tag.
func RulesOf(tag reflect.StructTag) Rules {
	r := Rules{Valid: tag.Get("valid")}
	if enum := tag.Get("enum"); enum != "" {
		r.Enum = strings.Split(enum, ",")
	}
	r.MaxItems, _ = strconv.Atoi(tag.Get("most"))
	return r
}

// check returns the requirement of the rules that v does not meet, "" if it meets all. forms are the
// checks of valid tags for strings.
func (r Rules) check(v reflect.Value, forms map[string]func(string) string) (want string) {
	if r.Enum != nil && v.Kind() == reflect.String && !slices.Contains(r.Enum, v.String()) {
		return "must be one of " + strings.Join(r.Enum, ", ")
	}
	if r.Valid == "" {
		return ""
	}
	if check, ok := forms[r.Valid]; ok {
		if v.Kind() != reflect.String {
			return "" // a list, whose items were checked
		}
		return check(v.String())
	}
	number, ok := numberOf(v)
	if !ok {
		return ""
	}
	switch r.Valid {
	case "positive":
		if number <= 0 {
			return "must be positive"
		}
		return ""
	case "non-negative":
		if number < 0 {
			return "must be 0 or more"
		}
		return ""
	}
	low, high, _ := strings.Cut(r.Valid, "..")
	switch least, most := bound(low, v, math.Inf(-1)), bound(high, v, math.Inf(1)); {
	case number >= least && number <= most:
		return ""
	case high == "":
		return fmt.Sprintf("must be %s or more", low)
	default:
		return fmt.Sprintf("must be from %s to %s", low, high)
	}
}

// numberOf returns v as a number: a duration in nanoseconds, a size in bytes.
func numberOf(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// bound parses one limit of a valid tag as a value of v's type.
func bound(text string, v reflect.Value, none float64) float64 {
	if text == "" {
		return none
	}
	switch v.Interface().(type) {
	case time.Duration:
		d, _ := ParseDuration(text)
		return float64(d)
	case Size:
		s, _ := ParseSize(text)
		return float64(s)
	}
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

// parseFloat parses a number. If the bounds have exponents, as those of small probabilities do, it may have a negative exponent,
// which all parsers of YAML and JSON read as a number or reject.
func (r Rules) parseFloat(text string) (value float64, want string) {
	if strings.Contains(r.Valid, "e-") && smallFloat.MatchString(text) {
		value, _ = strconv.ParseFloat(text, 64) // not too large
		return value, ""
	}
	return parseFloat(text)
}
