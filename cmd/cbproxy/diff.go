package main

import (
	"fmt"
	"io"

	"cbproxy/internal/configdiff"
)

// printDiff describes what changes when a proxy that runs with the file old reloads the file next.
func printDiff(w io.Writer, old, next string) error {
	from, err := loadChecked(w, old)
	if err != nil {
		return err
	}
	to, err := loadChecked(w, next)
	if err != nil {
		return err
	}
	changes := configdiff.Compare(from, to)
	if len(changes) == 0 {
		_, err = fmt.Fprintf(w, "%s and %s have the same effect\n", old, next)
		return err
	}
	restarts := 0
	for _, c := range changes {
		if err := c.WriteText(w); err != nil {
			return err
		}
		if c.Restart {
			restarts++
		}
	}
	_, err = fmt.Fprintf(w, "\n%s from %s to %s%s\n", plural(len(changes), "change"), old, next, restartNote(restarts))
	return err
}

// plural returns a count with its noun, in the plural unless n is 1.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// restartNote says how many changes need a restart.
func restartNote(n int) string {
	switch n {
	case 0:
		return "; no restart needed"
	case 1:
		return "; 1 of them needs a restart"
	}
	return fmt.Sprintf("; %d of them need a restart", n)
}
