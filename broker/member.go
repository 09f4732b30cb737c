package broker

import "github.com/taskgen/taskgen/codec"

// Member returns the group that a run is a member of, the queue that keeps the group, and the
// run's place there, from a stored form that Decode cannot read: one that is damaged further
// on, or of a newer version that kept these. It returns false if it finds no group, or if the
// place may be in the part that cannot be read.
func (d *Decoder) Member(b []byte) (queue, group string, member int, ok bool) {
	if len(b) == 0 {
		return "", "", 0, false
	}
	in := codec.NewReader(b[1:])
	placed := false
	for n := in.MapLen(); n > 0 && in.More(); n-- {
		switch string(in.Key()) {
		case "q", "wq": // the second comes after the first, and before the group
			if name := in.Text(); checkName("queue", string(name[:min(len(name), MaxName+1)]), MaxName, false) == nil {
				queue = string(name)
			}
		case "w":
			if name := in.Text(); checkName("group", string(name[:min(len(name), MaxID+1)]), MaxID, false) == nil {
				group = string(name)
			}
		case "v":
			if v := in.Int(); in.More() {
				member, placed = v, true
			}
		case "b":
			placed = placed || n == 1 // it is written last, and the first place is not written
			in.Skip()
		default:
			in.Skip()
		}
	}
	placed = placed || in.More()
	if queue == "" || group == "" || !placed || member < 0 || member >= MaxGroup {
		return "", "", 0, false
	}
	return queue, group, member, true
}
