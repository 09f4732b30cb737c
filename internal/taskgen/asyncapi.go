package taskgen

import (
	"cmp"
	"path"
	"strings"

	"github.com/taskgen/taskgen/internal/openapi"
)

// AsyncAPI returns the AsyncAPI 3.0 document of an application that executes the tasks. Its
// title is the path that their packages share, as no version of them is known.
func AsyncAPI(tasks []Task) ([]byte, error) {
	var list []openapi.Task
	for i := range tasks {
		t := &tasks[i]
		list = append(list, openapi.Task{
			Name: t.Name, Doc: t.Doc, Kind: t.Kind, Queue: t.Queue, Tags: t.Tags, Secrets: t.Secrets,
			Params: t.wireParams, Result: t.wireResult,
		})
	}
	return openapi.AsyncAPI(openapi.Info{Title: cmp.Or(sharedPath(tasks), "tasks"), Version: "unversioned"}, list)
}

// sharedPath returns the import path of the packages of the tasks, or of the folder that
// has them all.
func sharedPath(tasks []Task) string {
	shared := ""
	for i := range tasks {
		pkg := tasks[i].Package
		if i == 0 {
			shared = pkg
		}
		for shared != pkg && !strings.HasPrefix(pkg, shared+"/") {
			if shared = path.Dir(shared); shared == "." || shared == "/" {
				return ""
			}
		}
	}
	return shared
}
