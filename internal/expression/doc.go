// Package expression compiles and evaluates the expressions of the configuration: open_when and failure_when of a breaker. It is
// built on expr (github.com/expr-lang/expr) and accepts a part of expr's language, so that every evaluation is bounded:
//
//   - literals: nil, true, false, numbers, texts in quotes, and lists of these such as [500, 503];
//   - operators: ! not and && or || == != < <= > >= + - * / % ?? in, contains, startsWith, endsWith, matches, each of the last
//     five also with not before it, and condition ? a : b;
//   - functions: abs, float, int, len, and those of the environment;
//   - variables of the environment.
//
// Not accepted are everything that iterates or keeps values (predicates, ranges, slices, let, sequences), fields and methods of
// values, maps, all other functions of expr, and a + of two values that may be texts. A pattern of matches must be a literal. A
// chained comparison, a < b < c, and a ?: b are not accepted either, because expr evaluates the shared operand twice, which makes
// the cost exponential when they are nested.
//
// Values of different types: == is false and != is true; every other operator fails. So json('load') > 3 fails if the value is nil or a
// text. The type of an expression must be bool: json('failed') alone has any type, so it is written json('failed') == true. An operand
// of && or || that turns out to be no bool fails, unless it is nil and the last one to be evaluated: then the result is false.
//
// Limits: maxText bytes of text, maxNodes operators and operands, maxPatternSize instructions in all patterns together,
// maxListItems items that one evaluation may build. Compile errors and run-time errors are of type *Error. No value makes an
// evaluation panic.
package expression
