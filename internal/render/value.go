package render

import (
	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// value renders a literal. It is made of the parsed value, not of the source, so
// nothing else of the source can get into the file.
func (g *generator) value(v *scan.Value) *jen.Statement {
	switch {
	case v.Nil:
		return jen.Nil()
	case v.Lit != "" && v.Type.Kind == scan.Bytes:
		return g.typ(v.Type.Go).Call(jen.Id(v.Lit))
	case v.Lit != "":
		return jen.Id(v.Lit)
	case v.Type.IsDuration():
		return g.duration(v.Duration)
	case !v.Time.IsZero():
		at := func(part int) *jen.Statement { return jen.Lit(part) }
		return g.names.qual("time", "time", "Date").Call(
			at(v.Time.Year()), g.names.qual("time", "time", v.Time.Month().String()), at(v.Time.Day()),
			at(v.Time.Hour()), at(v.Time.Minute()), at(v.Time.Second()), at(v.Time.Nanosecond()),
			g.names.qual("time", "time", "UTC"),
		)
	}
	return g.typ(v.Type.Go).ValuesFunc(func(list *jen.Group) {
		for _, e := range v.Elems {
			switch {
			case e.Key != nil:
				list.Add(g.value(e.Key)).Op(":").Add(g.value(e.Value))
			case e.Field != "":
				list.Id(e.Field).Op(":").Add(g.value(e.Value))
			default:
				list.Add(g.value(e.Value))
			}
		}
	})
}
