package fallbacks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

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
	after     JSON // what follows the last hole
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
	return t, nil
}

// BodyLimit returns max_body if a template looks into the request's body.
func (t *templated) BodyLimit() int64 { return t.bodyLimit }

// Answer fails if a template does, or makes too much, or if ctx is done.
func (t *templated) Answer(ctx context.Context, r *Request) (*Answer, error) {
	e := executor{filling: filling{ctx: ctx, request: r}}
	var body bytes.Buffer
	for i := range t.holes {
		body.Write(t.holes[i].before)
		if err := e.fill(&body, &t.holes[i]); err != nil {
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

// fill writes what a template amounts to as JSON.
func (e *executor) fill(body *bytes.Buffer, h *hole) error {
	if h.value == nil {
		text, err := e.execute(h.root)
		if err != nil {
			return err
		}
		writeString(body, text)
		return nil
	}
	v, err := e.evaluate(h.value)
	if err != nil {
		return err
	}
	if s, ok := v.(string); ok && len(s) > maxTemplateText {
		return errLongText
	}
	return encode(body, v)
}
