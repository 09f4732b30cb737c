package markup

import (
	"errors"
	"fmt"
	"strings"
)

// where is a kind of place in HTML.
type where int8

const (
	inText        where = iota
	tagBegun            // behind <
	inTagName           // of a start tag
	inEndTag            // of an end tag
	inTag               // between attributes
	tagDone             // behind an attribute or the name of the tag, of which nothing more may follow
	inName              // of an attribute
	afterName           // of an attribute; = may follow
	beforeValue         // behind =
	inValue             // that is quoted
	inPlainValue        // that is not quoted
	inRaw               // of an element that has no markup in it
	inDeclaration       // such as <!doctype html>
)

// place is a place in HTML: what a browser has read so far.
type place struct {
	where
	quote   byte   // of inValue
	tag     string // in lower case: of the tag that is open; of inRaw: whose text it is
	name    string // in lower case: of the attribute
	address byte   // of an attribute that is one: 0: nothing of it was read, '?': its query, '/': else
	ending  string // of inRaw: the beginning of what ends it, as far as it was read
}

// raws are the elements whose text is no markup, and whether values may stand in it.
var raws = map[string]bool{"title": true, "textarea": true, "script": false, "style": false, "iframe": false, "noembed": false, "noframes": false, "xmp": false, "plaintext": false, "noscript": false}

// read returns the place behind some text of a template.
func (p place) read(text string) (place, error) {
	for i := range len(text) {
		var err error
		if p, err = p.next(text[i]); err != nil {
			return p, err
		}
	}
	return p, nil
}

func isSpace(c byte) bool { return strings.IndexByte(" \t\n\r\f", c) >= 0 }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// lower appends a byte to a name, in lower case.
func lower(name string, c byte) string {
	if c >= 'A' && c <= 'Z' {
		c |= 0x20
	}
	return name + string(rune(c))
}

// next returns the place behind one byte more.
func (p place) next(c byte) (place, error) {
	switch p.where {
	case inText:
		if c == '<' {
			return place{where: tagBegun}, nil
		}
	case tagBegun:
		return p.begin(c)
	case inTagName:
		if !isSpace(c) && c != '>' && c != '/' {
			p.tag = lower(p.tag, c)
			return p, nil
		}
		p.where = inTag
		return p.between(c)
	case inEndTag, inDeclaration:
		if c == '>' {
			return place{}, nil
		}
	case inTag:
		return p.between(c)
	case tagDone:
		if !isSpace(c) && c != '>' && c != '/' {
			return p, fmt.Errorf("%q stands behind a branch within a tag; write a space before it", c)
		}
		p.where = inTag
		return p.between(c)
	case inName, afterName:
		return p.named(c)
	case beforeValue, inValue, inPlainValue:
		return p.valued(c)
	case inRaw:
		return p.raw(c), nil
	}
	return p, nil
}

// begin reads what is behind <.
func (p place) begin(c byte) (place, error) {
	switch {
	case c == '/':
		return place{where: inEndTag}, nil
	case c == '!':
		return place{where: inDeclaration}, nil
	case isLetter(c):
		return place{where: inTagName, tag: lower("", c)}, nil
	}
	return p, fmt.Errorf("%q stands behind <; write &lt; for a < of the text", c)
}

// between reads what is between attributes.
func (p place) between(c byte) (place, error) {
	p.name = ""
	switch {
	case c == '>':
		return p.opened(), nil
	case isSpace(c), c == '/':
		return p, nil
	case c == '"', c == '\'', c == '<', c == '=':
		return p, fmt.Errorf("%q stands between attributes", c)
	}
	p.where, p.name = inName, lower("", c)
	return p, nil
}

// opened returns the place behind a start tag.
func (p place) opened() place {
	if _, isRaw := raws[p.tag]; isRaw {
		return place{where: inRaw, tag: p.tag}
	}
	return place{}
}

// named reads what is in or behind the name of an attribute.
func (p place) named(c byte) (place, error) {
	switch {
	case c == '=':
		p.where = beforeValue
		return p, nil
	case isSpace(c):
		p.where = afterName
		return p, nil
	case c == '"', c == '\'', c == '<':
		return p, fmt.Errorf("%q stands in the name of an attribute", c)
	case p.where == inName && c != '>' && c != '/':
		p.name = lower(p.name, c)
		return p, nil
	}
	p.where = inTag
	return p.between(c)
}

// valued reads what is before or in the value of an attribute.
func (p place) valued(c byte) (place, error) {
	switch {
	case p.where == beforeValue && isSpace(c):
		return p, nil
	case p.where == beforeValue && (c == '"' || c == '\''):
		p.where, p.quote = inValue, c
		return p, nil
	case p.where == inValue && c == p.quote:
		return place{where: inTag, tag: p.tag}, nil
	case p.where == inValue:
		if isAddress(p.name) {
			p.address = readAddress(p.address, c)
		}
		return p, nil
	case c == '>':
		return p.opened(), nil
	case p.where == inPlainValue && isSpace(c):
		return place{where: inTag, tag: p.tag}, nil
	}
	p.where = inPlainValue
	return p, nil
}

// readAddress returns how far an address was read.
func readAddress(at, c byte) byte {
	switch {
	case at == '?' || c == '?':
		return '?'
	case at == 0 && isSpace(c):
		return 0
	}
	return '/'
}

// raw reads the text of an element that has no markup in it.
func (p place) raw(c byte) place {
	end := "</" + p.tag
	switch next := lower(p.ending, c); {
	case p.ending == end && c == '>':
		return place{}
	case p.ending == end && isSpace(c):
		return p
	case strings.HasPrefix(end, next):
		p.ending = next
	case c == '<':
		p.ending = "<"
	default:
		p.ending = ""
	}
	return p
}

// use is how a value is written in a place.
type use int8

const (
	asText use = iota
	asAddress
	asQuery
)

// use returns how a value is written here, or an error if none may be.
func (p place) use() (use, error) {
	switch p.where {
	case inText:
		return asText, nil
	case inRaw:
		if raws[p.tag] && p.ending == "" {
			return asText, nil
		}
		return 0, fmt.Errorf("a value in the element %s", p.tag)
	case inValue:
		return p.inAttribute()
	}
	return 0, fmt.Errorf("a value stands in a tag, and not in text or a quoted value of an attribute")
}

func (p place) inAttribute() (use, error) {
	name := strings.TrimPrefix(p.name, "data-")
	switch {
	case strings.HasPrefix(name, "on"), name == "style", name == "srcdoc", name == "srcset", name == "ping":
		return 0, fmt.Errorf("a value in the attribute %s", p.name)
	case !isAddress(name):
		return asText, nil
	case p.address == 0:
		return asAddress, nil
	case p.address == '?':
		return asQuery, nil
	}
	return 0, fmt.Errorf("a value stands in the middle of the address in the attribute %s", p.name)
}

// addresses are the attributes that are addresses.
var addresses = map[string]bool{
	"action": true, "archive": true, "background": true, "cite": true, "classid": true, "codebase": true, "data": true, "formaction": true, "href": true,
	"icon": true, "longdesc": true, "manifest": true, "poster": true, "profile": true, "src": true, "usemap": true, "xmlns": true,
}

// isAddress reports whether an attribute is an address, or may be one for a script.
func isAddress(name string) bool {
	if _, local, found := strings.Cut(name, ":"); found {
		name = local // such as xlink:href
	}
	return addresses[name] || strings.Contains(name, "src") || strings.Contains(name, "uri") || strings.Contains(name, "url")
}

// shown returns the place behind a value.
func (p place) shown() place {
	if p.where == inValue && p.address == 0 && isAddress(p.name) {
		p.address = '/'
	}
	return p
}

// join returns the place behind two branches that end at p and q, or an error if no place is
// as strict as both.
func (p place) join(q place) (place, error) {
	switch {
	case p == q:
		return p, nil
	case p.done() == q.done():
		return p.done(), nil
	case p.where == inValue && q.where == inValue:
		p.address, q.address = '/', '/'
	}
	if p != q {
		return p, errBranches
	}
	return p, nil
}

var errBranches = errors.New("a branch ends in another place of the markup than it began, or than another branch")

// done returns the place in a tag where nothing more of a name or attribute may follow.
func (p place) done() place {
	switch p.where {
	case inTagName, inTag, inName, afterName:
		return place{where: tagDone, tag: p.tag}
	}
	return p
}
