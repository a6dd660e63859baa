package statusview

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/sanitize"
)

// DrawOverrides writes a row for each overridden key, and until when.
func DrawOverrides(w io.Writer, o admin.Overrides, now time.Time) error {
	if len(o.Keys) == 0 {
		_, err := fmt.Fprintln(w, "No keys are overridden.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tOTHERWISE")
	for _, k := range o.Keys {
		otherwise := "-"
		if string(k.FileValue) != "null" {
			otherwise = sanitize.Short(string(k.FileValue), 60)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", sanitize.Printable(k.Key), sanitize.Short(string(k.Value), 60), otherwise)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nin force %s\n", OverridesEndText(o, now))
	return err
}

// OverridesEndText says how long overrides are still in force, and why, such as "for 29m59s: slow disk".
func OverridesEndText(o admin.Overrides, now time.Time) string {
	if o.Until == nil {
		return ""
	}
	return endText(*o.Until, o.Reason, now)
}

// ChangesText returns changes in the form of cbproxy check --diff.
func ChangesText(changes []admin.ConfigChange) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s: %s\n    %s\n", sanitize.Printable(c.Key), sanitize.Printable(c.Change), sanitize.Printable(c.Effect))
	}
	return b.String()
}

// overridesText says which keys are overridden, how long, and why.
func overridesText(o *admin.OverridesStatus, now time.Time) string {
	if o == nil {
		return ""
	}
	return sanitize.Short(strings.Join(o.Keys, ", "), 80) + " " + endText(o.Until, o.Reason, now)
}

func endText(until time.Time, reason string, now time.Time) string {
	text := "for " + Age(until.Sub(now))
	if reason != "" {
		text += ": " + sanitize.Short(reason, 40)
	}
	return text
}
