package expression

import (
	"fmt"
	"reflect"
	"regexp/syntax"

	"github.com/expr-lang/expr/ast"
)

// maxPatternSize bounds the patterns of an expression. The time of a match is proportional to the size of its pattern times the
// length of the text.
const maxPatternSize = 1000

// patternSize returns the approximate number of instructions of a pattern. It does not compile it, because a pattern of a few
// characters can have millions.
func patternSize(pattern string) (int, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("the pattern of matches must be a regular expression of RE2: %w", err)
	}
	return sizeOf(re), nil
}

// sizeOf returns the size of re with its repetitions written out, at most maxPatternSize + 1.
func sizeOf(re *syntax.Regexp) int {
	size := 1
	if re.Op == syntax.OpLiteral {
		size = len(re.Rune)
	}
	for _, sub := range re.Sub {
		size = min(size+sizeOf(sub), maxPatternSize+1)
	}
	if re.Op == syntax.OpRepeat {
		size = (size - 1) * max(re.Min, re.Max, 1)
	}
	return min(size, maxPatternSize+1)
}

// isNumber reports whether the type checker knows that a node is a number.
func isNumber(n ast.Node) bool {
	switch n.Type().Kind() {
	case reflect.Int, reflect.Float64:
		return true
	}
	return false
}
