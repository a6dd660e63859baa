package store

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// replySchema is the structure that the client library expects of a reply. Unless a reply has it, the library panics, possibly on its own
// goroutines.
type replySchema int

const (
	anySchema     replySchema = iota
	messageSchema             // messages of subscribed channels
	addressSchema             // the address of a master
	helloSchema               // the reply to HELLO, without errors and null values in it
)

var (
	subscribeCommand     = regexp.MustCompile(`(?i)^\*\d+\r\n\$\d+\r\n[ps]?subscribe\r\n`)
	helloCommand         = regexp.MustCompile(`(?i)^\*\d+\r\n\$5\r\nhello\r\n`)
	masterAddressCommand = regexp.MustCompile(`(?i)^\*\d+\r\n\$8\r\nsentinel\r\n\$23\r\nget-master-addr-by-name\r\n`)
)

// schemaFor returns the schema of the reply to a command that is sent after one with the schema current. After a subscription all replies
// are messages.
func schemaFor(command []byte, current replySchema) replySchema {
	switch {
	case current == messageSchema, subscribeCommand.Match(command):
		return messageSchema
	case masterAddressCommand.Match(command):
		return addressSchema
	case helloCommand.Match(command):
		return helloSchema
	}
	return anySchema
}

// mustBuffer reports whether a reply must be complete to be checked.
func (s replySchema) mustBuffer() bool { return s == messageSchema || s == addressSchema }

var errSchema = errors.New("a reply does not have the structure that its command requires")

// check returns an error unless a complete reply has the schema. The client library handles replies that are not lists.
func (s replySchema) check(reply []byte) error {
	if bytes.IndexByte([]byte("*~>|"), reply[0]) < 0 {
		return nil
	}
	if bytes.Equal(reply[1:], []byte("-1\r\n")) {
		return nil // a null list
	}
	list, ok := stringsIn(reply)
	switch {
	case !ok:
		return errSchema
	case s == messageSchema && !isMessage(list), s == addressSchema && len(list) != 2:
		return errSchema
	}
	return nil
}

// replyText is an element of a list: a string or, with another kind, a number or null.
type replyText struct {
	kind byte
	text string
}

func (t replyText) isString() bool { return t.kind == '$' || t.kind == '+' }

// stringsIn returns the elements of a list, false if one is a list itself. The framing has been checked.
func stringsIn(reply []byte) (list []replyText, ok bool) {
	line, rest, _ := bytes.Cut(reply, []byte("\r\n"))
	if line[0] == '|' {
		return nil, false
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		element := replyText{line[0], string(line[1:])}
		switch {
		case isAggregate(element.kind), element.kind == '=', element.kind == '!':
			return nil, false
		case element.kind == '$' && element.text == "-1":
			element.kind = '_'
		case element.kind == '$':
			n, err := strconv.Atoi(element.text)
			if err != nil {
				return nil, false
			}
			element.text, rest = string(rest[:n]), rest[n+2:]
		}
		list = append(list, element)
	}
	return list, true
}

// switchFields is the number of words in a Sentinel's message about a new master.
const switchFields = 5

// isMessage reports whether a list is a message of a channel, or about a subscription.
func isMessage(list []replyText) bool {
	if len(list) == 0 || !list[0].isString() {
		return false
	}
	texts := 0
	for _, t := range list {
		if t.isString() {
			texts++
		}
	}
	switch list[0].text {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe":
		return len(list) == 3 && (list[1].isString() || list[1].kind == '_') && list[2].kind == ':'
	case "message", "smessage":
		return len(list) == 3 && texts == 3 && (list[1].text != "+switch-master" || strings.Count(list[2].text, " ") >= switchFields-1)
	case "pmessage":
		return len(list) == 4 && texts == 4
	case "pong":
		return len(list) == 2 && texts == 2
	}
	return false
}
