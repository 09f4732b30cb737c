package taskapp

import (
	"fmt"

	"github.com/taskgen/taskgen/internal/naming"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// param is a parameter of a task as the command line knows it.
type param struct {
	taskrt.Param
	flag string // kebab-case
}

// params returns the parameters of the task, in their order. Each has the flag of its
// kebab-case name; those that would have the same one, such as dataID and dataId, have
// the flag of their own name.
func (t *task) params() []param {
	var params []param
	uses := make(map[string]int)
	for _, p := range t.Params() {
		params = append(params, param{p, naming.Kebab(p.Name)})
		uses[naming.Kebab(p.Name)]++
	}
	for i, p := range params {
		if uses[p.flag] > 1 {
			params[i].flag = p.Name
		}
	}
	return params
}

// recovered makes an error of a panic in the application's marshalling.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}
