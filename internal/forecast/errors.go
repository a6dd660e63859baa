package forecast

import (
	"math"

	"cbproxy/internal/events"
)

const (
	// errorMinutes is the number of minutes over which errors are averaged.
	errorMinutes = 60
	// minErrors is the number of errors below which there is no average.
	minErrors = 12
	// targetSteps is the number of steps with whose calls a prediction is compared: half of them before the time for which it was made,
	// and half of them after. A single step has too few calls to say what the ratio was.
	targetSteps = 6
)

// errorSum is the sum of the absolute errors of n predictions.
type errorSum struct {
	predicted, asNow float32
	n                uint32
}

// errorMean averages errors over the last hour.
type errorMean struct {
	minutes [errorMinutes]errorSum // a ring, by the number of the minute
	minute  int                    // the current one
}

// advance begins a minute, and drops those that are an hour old.
func (m *errorMean) advance(minute int) {
	for ; m.minute < minute; m.minute++ {
		m.minutes[(m.minute+1)%errorMinutes] = errorSum{}
	}
}

// add adds the errors of a prediction and of the value at the time when it was made. Values that are not known are NaN; then there is no
// error.
func (m *errorMean) add(predicted, asNow, actual float64) {
	p, a := math.Abs(predicted-actual), math.Abs(asNow-actual)
	if math.IsNaN(p) || math.IsNaN(a) {
		return
	}
	s := &m.minutes[m.minute%errorMinutes]
	s.predicted += float32(p)
	s.asNow += float32(a)
	s.n++
}

// mean returns the averages; NaN if there are too few errors.
func (m *errorMean) mean() events.ForecastError {
	var predicted, asNow, n float64
	for _, s := range m.minutes {
		predicted, asNow, n = predicted+float64(s.predicted), asNow+float64(s.asNow), n+float64(s.n)
	}
	if n < minErrors {
		return events.ForecastError{Predicted: math.NaN(), AsNow: math.NaN()}
	}
	return events.ForecastError{Predicted: predicted / n, AsNow: asNow / n}
}

// outlook is a prediction that waits for what comes, and the value at the time when it was made.
type outlook struct{ predicted, asNow float32 }

// unknownOutlook is the outlook of a step without prediction.
var unknownOutlook = outlook{float32(math.NaN()), float32(math.NaN())}

// judge compares the predictions of one kind and horizon with what came.
type judge struct {
	errors  errorMean
	pending []outlook // a ring, by the number of the step; each is judged when its place is needed again
}

// newJudge returns a judge of predictions for a number of steps.
func newJudge(steps int) judge {
	j := judge{pending: make([]outlook, steps+targetSteps/2)}
	j.forget()
	return j
}

// forget drops the predictions that have not been judged.
func (j *judge) forget() {
	for i := range j.pending {
		j.pending[i] = unknownOutlook
	}
}

// next judges the prediction that was made for the middle of the steps up to this one, whose actual value is known now, and keeps the one
// that is made now. The values may be NaN.
func (j *judge) next(step int, actual, predicted, asNow float64) {
	p := &j.pending[step%len(j.pending)]
	j.errors.advance(step / stepsPerMinute)
	j.errors.add(float64(p.predicted), float64(p.asNow), actual)
	*p = outlook{float32(predicted), float32(asNow)}
}
