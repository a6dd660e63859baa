// Package files reads small files within limits and watches the content of a file through edits,
// renames and swaps of symbolic links. It imports no other package of this module.
package files
