package fallbacks

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

// The rules for values are those of text/template, and so are the functions here.

// truth reports whether v is neither missing nor zero nor empty.
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case complex128:
		return v != 0
	case nil:
		return false
	}
	if n, ok := whole(v); ok {
		return n != 0
	}
	n, _ := length(v)
	return n > 0
}

// whole returns the whole number that v is.
func whole(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint8:
		return int64(v), true
	}
	return 0, false
}

// kindOf names what v is: values compare with those of the same kind.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "nothing"
	case null:
		return "null"
	case bool:
		return "a boolean"
	case string, json.Number:
		return "text"
	case int, int64, uint8:
		return "a whole number"
	case float64:
		return "a fraction"
	case complex128:
		return "a complex number"
	case []any:
		return "a list"
	}
	return "a map"
}

// basic returns v as one of its kind that Go can compare with others of it, nil if it can't be
// compared.
func basic(v any) any {
	if n, ok := whole(v); ok {
		return n
	}
	switch v := v.(type) {
	case json.Number:
		return string(v)
	case []any, map[string]any:
		return nil
	}
	return v
}

func equal(a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	x, y := basic(a), basic(b)
	if x == nil || y == nil || kindOf(a) != kindOf(b) {
		return false, fmt.Errorf("can't compare %s and %s", kindOf(a), kindOf(b))
	}
	return x == y, nil
}

// equalsOne reports whether v equals one of others.
func equalsOne(v any, others []any) (bool, error) {
	for _, other := range others {
		if equal, err := equal(v, other); equal || err != nil {
			return equal, err
		}
	}
	return false, nil
}

// compares returns a function of two arguments that looks at their order.
func compares(is func(order int) bool) func(*filling, []any) (any, error) {
	return func(_ *filling, args []any) (any, error) {
		x, y := basic(args[0]), basic(args[1])
		if kindOf(args[0]) == kindOf(args[1]) {
			switch x := x.(type) {
			case string:
				return is(cmp.Compare(x, y.(string))), nil
			case int64:
				return is(cmp.Compare(x, y.(int64))), nil
			case float64:
				return is(cmp.Compare(x, y.(float64))), nil
			}
		}
		return nil, fmt.Errorf("can't order %s and %s", kindOf(args[0]), kindOf(args[1]))
	}
}

func length(v any) (int, error) {
	switch v := v.(type) {
	case string:
		return len(v), nil
	case json.Number:
		return len(v), nil
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	}
	return 0, fmt.Errorf("%s has no length", kindOf(v))
}

// index returns v[indices[0]][indices[1]] and so on.
func index(v any, indices []any) (any, error) {
	if v == nil {
		return nil, errors.New("nothing has no parts")
	}
	for _, i := range indices {
		if m, ok := v.(map[string]any); ok {
			key, ok := i.(string)
			if !ok {
				return nil, fmt.Errorf("the index of a map must be text, got %s", kindOf(i))
			}
			v = m[key]
			continue
		}
		size, err := length(v)
		if err != nil {
			return nil, err
		}
		n, err := place(i, size-1)
		if err != nil {
			return nil, err
		}
		switch list := v.(type) {
		case string:
			v = list[n]
		case json.Number:
			v = list[n]
		case []any:
			v = list[n]
		}
	}
	return v, nil
}

// place returns an index from 0 to most.
func place(i any, most int) (int, error) {
	n, ok := whole(i)
	if !ok {
		return 0, fmt.Errorf("an index must be a whole number, got %s", kindOf(i))
	}
	if n < 0 || n > int64(most) {
		return 0, fmt.Errorf("index out of range: %d", n)
	}
	return int(n), nil
}

// slice returns v[from:to] or v[from:to:capacity] of up to three places.
func slice(v any, places []any) (any, error) {
	size, err := length(v)
	if err != nil {
		return nil, err
	}
	list, isList := v.([]any)
	most := size
	if isList {
		most = cap(list)
	}
	at := [3]int{0, size, most}
	for i := range places {
		if at[i], err = place(places[i], most); err != nil {
			return nil, err
		}
	}
	if at[0] > at[1] || at[1] > at[2] {
		return nil, fmt.Errorf("the places %d, %d and %d are not in order", at[0], at[1], at[2])
	}
	switch v := v.(type) {
	case string:
		if len(places) < 3 {
			return v[at[0]:at[1]], nil
		}
	case json.Number:
		if len(places) < 3 {
			return v[at[0]:at[1]], nil
		}
	case []any:
		return v[at[0]:at[1]:at[2]], nil
	}
	return nil, fmt.Errorf("can't slice %s by %d places", kindOf(v), len(places))
}
