package fallbacks

import (
	"errors"
	"mime"
	"slices"
	"strconv"
	"strings"
)

// Selective is implemented by inline strategies that answer only some requests, whatever the strategy's state. The chain asks before it
// builds a Request. If a strategy of the chain was not selected and none has an answer, the client gets 503.
type Selective interface {
	// Select returns an error that wraps ErrNotSelected if the strategy does not answer requests with this method and these values of
	// Accept.
	Select(method string, accept []string) error
}

// ErrNotSelected is in the error of Chain.Answer if a Selective strategy does not answer such requests.
var ErrNotSelected = errors.New("it does not answer such requests")

var (
	errOtherMethod = &notSelectedError{"the method is not in methods"}
	errOtherTypes  = &notSelectedError{"the client accepts none of content_types"}
)

type notSelectedError struct{ text string }

func (e *notSelectedError) Error() string        { return e.text }
func (e *notSelectedError) Is(target error) bool { return target == ErrNotSelected }

// Selection implements Selective for strategies with the options methods and content_types.
type Selection struct {
	// Methods are the methods of the requests that are answered; empty: all.
	Methods []string
	// ContentTypes are media types of which the client must accept at least one; empty: all clients are answered.
	ContentTypes []string
}

// Select implements Selective.
func (s Selection) Select(method string, accept []string) error {
	switch {
	case len(s.Methods) > 0 && !slices.Contains(s.Methods, method):
		return errOtherMethod
	case len(s.ContentTypes) > 0 && !slices.ContainsFunc(s.ContentTypes, func(t string) bool { return accepts(accept, t) }):
		return errOtherTypes
	}
	return nil
}

// Validate reports content types that are none, by path below the options.
func (s Selection) Validate(report func(path, message string)) {
	for i, t := range s.ContentTypes {
		kind, parameters, err := mime.ParseMediaType(t)
		main, sub, _ := strings.Cut(kind, "/")
		if err != nil || len(parameters) > 0 || kind != t || main == "" || sub == "" || strings.Contains(t, "*") {
			report("content_types["+strconv.Itoa(i)+"]", "must be a media type in lower case without parameters, such as application/json, got "+strconv.Quote(t))
		}
	}
}

// accepts reports whether the values of an Accept field include a media type (RFC 9110, section 12.5.1). No values include all types.
func accepts(accept []string, mediaType string) bool {
	if len(accept) == 0 {
		return true
	}
	best, accepted := -1, false // the most specific range decides
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			specificity, quality := matchRange(element, mediaType)
			if specificity > best {
				best, accepted = specificity, quality > 0
			}
		}
	}
	return accepted
}

// matchRange returns how specific a media range is if it includes a media type, and -1 if it does not or is malformed.
func matchRange(element, mediaType string) (specificity int, quality float64) {
	kind, parameters, err := mime.ParseMediaType(element)
	if err != nil {
		return -1, 0
	}
	quality = 1
	if q, ok := parameters["q"]; ok {
		if quality, err = strconv.ParseFloat(q, 64); err != nil {
			return -1, 0
		}
	}
	main, _, _ := strings.Cut(mediaType, "/")
	switch kind {
	case mediaType:
		return 2, quality
	case main + "/*":
		return 1, quality
	case "*/*":
		return 0, quality
	}
	return -1, 0
}
