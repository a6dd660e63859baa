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
		fmt.Fprintf(t, "%s\t%s\t%s\n", sanitize.Printable(k.Key), sanitize.Short(string(k.Value), 60), fileValueText(k, "-"))
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

// overriddenTexts returns a text for each overridden key, such as "breaker.fail_max = 10, otherwise 5".
func overriddenTexts(o *admin.Overrides) (texts []string) {
	if o == nil {
		return nil
	}
	for _, k := range o.Keys {
		texts = append(texts, fmt.Sprintf("%s = %s, otherwise %s", sanitize.Printable(k.Key), sanitize.Short(string(k.Value), 60), fileValueText(k, "not set")))
	}
	return texts
}

// fileValueText returns the value of a key in file and environment, or none if they have none.
func fileValueText(k admin.OverriddenKey, none string) string {
	if string(k.FileValue) == "null" {
		return none
	}
	return sanitize.Short(string(k.FileValue), 60)
}

func endText(until time.Time, reason string, now time.Time) string {
	text := "for " + Age(until.Sub(now))
	if reason != "" {
		text += ": " + sanitize.Short(reason, 40)
	}
	return text
}
