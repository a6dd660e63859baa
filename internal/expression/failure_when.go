package expression

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Response is what a failure_when expression knows of a response.
type Response struct {
	Status int
	// Header has canonical names, as http.Header.
	Header map[string][]string
	// GRPCStatus is the name of the status of a gRPC response, such as UNAVAILABLE; "" if the response is not one of gRPC, or if its
	// status is not known yet.
	GRPCStatus string
	// Body is the whole body; nil if it is not known, or not complete. It is used only if FailureWhen.UsesBody.
	Body []byte
}

// maxValue is the length in bytes of the longest text that header returns, and of the longest text, list or object that json does. A
// longer one is an error.
const maxValue = 64 << 10

// responseEnv is the environment of one evaluation of a FailureWhen, and its memory.
type responseEnv struct {
	Status     int    `expr:"status"`
	GRPCStatus string `expr:"grpc_status"`

	program *FailureWhen
	header  map[string][]string
	body    []byte
	scanned bool  // values are those of body
	values  []any // by the number of the call; nil for a call of header
	vm      vm.VM
}

var responseEnvironment = &environment{
	value:     &responseEnv{},
	variables: variablesOf[responseEnv](),
	functions: map[string]checkArgument{"header": checkFieldName, "json": checkPath},
	options: []expr.Option{
		expr.Function("header", func(params ...any) (any, error) {
			return params[0].(*responseEnv).headerField(params[1].(int))
		}, new(func(*responseEnv, int) string)),
		expr.Function("json", func(params ...any) (any, error) {
			return params[0].(*responseEnv).jsonValue(params[1].(int))
		}, new(func(*responseEnv, int) any)),
	},
}

// FailureWhen is a compiled expression on a Response. It is safe for concurrent use.
type FailureWhen struct {
	program *program
	fields  []string  // by the number of the call, the canonical name of the header field; "" for a call of json
	paths   *pathNode // of all calls of json; nil if there is none
	pool    sync.Pool // of *responseEnv
}

// CompileFailureWhen compiles an expression on a Response. The error is an *Error.
func CompileFailureWhen(text string) (*FailureWhen, error) {
	p, err := compile(text, responseEnvironment)
	if err != nil {
		return nil, err
	}
	f := &FailureWhen{program: p, fields: make([]string, len(p.calls))}
	for number, c := range p.calls {
		switch c.function {
		case "header":
			f.fields[number] = canonicalFieldName(c.argument)
		case "json":
			if f.paths == nil {
				f.paths = newPathNode()
			}
			f.paths.add(splitPath(c.argument), number)
		}
	}
	f.pool.New = func() any { return &responseEnv{program: f, values: make([]any, len(p.calls))} }
	return f, nil
}

// UsesBody reports whether the expression uses Response.Body.
func (f *FailureWhen) UsesBody() bool { return f.paths != nil }

// UsesGRPCStatus reports whether the expression uses Response.GRPCStatus.
func (f *FailureWhen) UsesGRPCStatus() bool { return f.program.names["grpc_status"] }

// Evaluate returns the result for r. The error is an *Error.
func (f *FailureWhen) Evaluate(r Response) (bool, error) {
	env := f.pool.Get().(*responseEnv)
	env.Status, env.GRPCStatus, env.header, env.body = r.Status, r.GRPCStatus, r.Header, r.Body
	result, err := f.program.run(&env.vm, env)
	env.GRPCStatus, env.header, env.body, env.scanned = "", nil, nil, false
	clear(env.values)
	clear(env.vm.Stack[:cap(env.vm.Stack)])
	f.pool.Put(env)
	return result, err
}

// headerField is the function header: it returns the first line of a field, "" if there is none.
func (e *responseEnv) headerField(number int) (any, error) {
	name := e.program.fields[number]
	lines := e.header[name]
	switch {
	case len(lines) == 0:
		return "", nil
	case len(lines[0]) > maxValue:
		return nil, fmt.Errorf("the header field %s has more than %d bytes", name, maxValue)
	}
	return lines[0], nil
}

// jsonValue is the function json: it returns the value at a path of the body. The first call scans the body for all paths.
func (e *responseEnv) jsonValue(number int) (any, error) {
	if !e.scanned {
		e.scanned = true
		scanJSON(e.body, e.program.paths, e.values)
	}
	if err, failed := e.values[number].(error); failed {
		return nil, err
	}
	return e.values[number], nil
}

// variablesOf returns the expr tags of the fields of T.
func variablesOf[T any]() (names []string) {
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("expr"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// checkFieldName returns what the name of a header field must be, "" if it is valid.
func checkFieldName(name string) (want string) {
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return "must be the name of a header field"
		}
	}
	if name == "" || len(name) > 256 {
		return "must be the name of a header field, with 1 to 256 characters"
	}
	return ""
}

// isTokenByte reports whether c may be part of a field name (RFC 9110, section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	for _, special := range []byte("!#$%&'*+-.^_`|~") {
		if c == special {
			return true
		}
	}
	return false
}

// canonicalFieldName returns a valid field name as http.CanonicalHeaderKey does. This package does not import net/http, because
// internal/breaker imports it.
func canonicalFieldName(name string) string {
	b, upper := []byte(name), true
	for i, c := range b {
		switch {
		case upper && c >= 'a' && c <= 'z':
			b[i] = c - 'a' + 'A'
		case !upper && c >= 'A' && c <= 'Z':
			b[i] = c - 'A' + 'a'
		}
		upper = c == '-'
	}
	return string(b)
}
