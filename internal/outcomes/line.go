package outcomes

import (
	"encoding/json"
	"strconv"
	"time"

	"cbproxy/internal/events"
)

// lineTime is the format of times in lines. It has whole nanoseconds, as many as a record can tell apart.
const lineTime = "2006-01-02T15:04:05.000000000Z07:00"

// AppendLine appends a call of a service to b as a line of JSON.
func AppendLine(b []byte, service string, c *events.Call) []byte {
	name, _ := json.Marshal(service) // a string can always be marshalled
	b = append(b, `{"time":"`...)
	b = c.Time.UTC().AppendFormat(b, lineTime)
	b = append(b, `","service":`...)
	b = append(b, name...)
	b = append(b, `,"outcome":"`...)
	b = append(b, c.Result...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(c.Status), 10)
	b = append(b, `,"error_type":"`...)
	b = append(b, c.ErrorType...)
	b = append(b, `","duration_ms":`...)
	b = strconv.AppendFloat(b, float64(c.Duration)/float64(time.Millisecond), 'f', -1, 64)
	return append(b, "}\n"...)
}
