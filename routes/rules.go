package routes

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rules are what a field's tags demand of its value beyond its type.
type rules struct {
	valid string
	enum  []string
	most  int // items of a list; 0 is no bound
}

func rulesOf(tag reflect.StructTag) rules {
	r := rules{valid: tag.Get("valid")}
	if enum := tag.Get("enum"); enum != "" {
		r.enum = strings.Split(enum, ",")
	}
	r.most, _ = strconv.Atoi(tag.Get("most"))
	return r
}

// check returns what v must be by its bounds and its list of values, "" if it is.
func (r rules) check(v reflect.Value) (want string) {
	if r.enum != nil && v.Kind() == reflect.String && !slices.Contains(r.enum, v.String()) {
		return "must be one of " + strings.Join(r.enum, ", ")
	}
	if r.valid == "" {
		return ""
	}
	if form, ok := textForms[r.valid]; ok {
		if v.Kind() != reflect.String {
			return "" // a list, whose items were checked
		}
		return form.check(v.String())
	}
	number, ok := numberOf(v)
	if !ok {
		return ""
	}
	switch r.valid {
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
	low, high, _ := strings.Cut(r.valid, "..")
	switch least, most := bound(low, v, math.Inf(-1)), bound(high, v, math.Inf(1)); {
	case number >= least && number <= most:
		return ""
	case high == "":
		return fmt.Sprintf("must be %s or more", low)
	default:
		return fmt.Sprintf("must be from %s to %s", low, high)
	}
}

// numberOf returns v as a number: durations in nanoseconds, sizes in bytes.
func numberOf(v reflect.Value) (float64, bool) {
	switch {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// bound reads one end of a valid tag in the units of v's type.
func bound(text string, v reflect.Value, none float64) float64 {
	if text == "" {
		return none
	}
	switch v.Interface().(type) {
	case time.Duration:
		d, _ := parseDuration(text)
		return float64(d)
	case Size:
		s, _ := parseSize(text)
		return float64(s)
	}
	f, _ := parseFloat(text)
	return f
}
