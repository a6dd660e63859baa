package fallbacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"text/template"

	"cbproxy/routes"
)

// TemplateOptions configures the template strategy, which makes its answer from the request.
type TemplateOptions struct {
	// Status of the answer.
	Status int `yaml:"status" valid:"200..599"`
	// Headers of the answer, as they are here; Content-Type is application/json unless it is set here.
	Headers map[string]string `yaml:"headers"`
	// Body, any YAML value, served as JSON. Texts in it, but no keys, may be Go templates with the functions service, reason, method, path N, query NAME, header NAME, json PATH and default VALUE beside Go's own, to which the numbers of json are texts. A text that is one action and nothing else becomes that action's value, of whatever type, null if it is missing.
	Body JSON `yaml:"body"`
	// Longest request body whose fields json knows; of a longer one, as of one that is not JSON, all are missing.
	MaxBody routes.Size `yaml:"max_body" valid:"1..1MiB"`
}

func defaultTemplateOptions() *TemplateOptions {
	return &TemplateOptions{Status: http.StatusOK, MaxBody: 64 << 10}
}

// Validate reports what the types can't say, by path below the options.
func (o *TemplateOptions) Validate(report func(path, message string)) {
	checkAnswer(o.Status, o.Headers, o.Body, report)
	parseTemplates(o.Body, report)
}

// An answer must not take much memory, whatever an operator's templates do.
const (
	maxTemplateText = 64 << 10 // bytes of one text, before it is escaped
	maxTemplateBody = 1 << 20  // bytes of the whole body
)

var (
	errLongText = errors.New("a text is longer than 64 KiB")
	errLongBody = errors.New("the body is longer than 1 MiB")
)

// templated fills its templates in for each request. What the request holds is data all along:
// it is put into JSON that is otherwise finished, as a value that is encoded whole.
type templated struct {
	answer    Answer // without its body
	bodyLimit int64
	holes     []hole
	after     JSON      // what follows the last hole
	idle      sync.Pool // of *filler
}

func newTemplated(o *TemplateOptions, _ Site) (Strategy, error) {
	var faults []error
	parsed := parseTemplates(o.Body, func(path, message string) { faults = append(faults, fmt.Errorf("%s: %s", path, message)) })
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	t := &templated{answer: configured(o.Status, o.Headers), holes: parsed.holes, after: parsed.after}
	if parsed.usesJSON {
		t.bodyLimit = int64(o.MaxBody)
	}
	t.idle.New = func() any { return newFiller(t.holes) }
	return t, nil
}

// BodyLimit returns max_body if a template looks into the request's body.
func (t *templated) BodyLimit() int64 { return t.bodyLimit }

// Answer fails if a template does, or makes too much, or if ctx is done.
func (t *templated) Answer(ctx context.Context, r *Request) (*Answer, error) {
	f := t.idle.Get().(*filler)
	f.filling = filling{ctx: ctx, request: r}
	defer func() {
		f.filling = filling{} // the request is not to be kept
		t.idle.Put(f)
	}()
	var body bytes.Buffer
	for i := range t.holes {
		body.Write(t.holes[i].before)
		if err := f.fill(&body, i, t.holes[i].typed); err != nil {
			return nil, fmt.Errorf("fill in %s: %w", t.holes[i].path, err)
		}
		if body.Len() > maxTemplateBody {
			return nil, errLongBody
		}
	}
	if body.Write(t.after); body.Len() > maxTemplateBody {
		return nil, errLongBody
	}
	a := t.answer
	a.Body = body.Bytes()
	return &a, nil
}

// filler executes templates for one request at a time: a template's functions are bound before
// it is executed, so each filler has its own.
type filler struct {
	templates []*template.Template
	filling
}

// filling is the work on one request.
type filling struct {
	ctx     context.Context
	request *Request
	value   any // of the last template that is one action
	fields  any // of the request's body
	parsed  bool
}

func newFiller(holes []hole) *filler {
	f := &filler{}
	functions := f.functions()
	functions[textFunction], functions[valueFunction], functions[rangeFunction] = f.text, f.keep, f.turns
	for i := range holes {
		t := template.New(holes[i].path).Funcs(functions)
		f.templates = append(f.templates, template.Must(t.AddParseTree(holes[i].path, holes[i].tree)))
	}
	return f
}

// fill writes what a template amounts to as JSON.
func (f *filler) fill(body *bytes.Buffer, i int, typed bool) error {
	var text limitedText
	if err := f.templates[i].Execute(&text, nil); err != nil {
		return err
	}
	if !typed {
		writeString(body, text.b.String())
		return nil
	}
	if s, ok := f.value.(string); ok && len(s) > maxTemplateText {
		return errLongText
	}
	return encode(body, f.value)
}

// limitedText takes at most maxTemplateText bytes.
type limitedText struct{ b bytes.Buffer }

func (t *limitedText) Write(part []byte) (int, error) {
	if t.b.Len()+len(part) > maxTemplateText {
		return 0, errLongText
	}
	return t.b.Write(part)
}
