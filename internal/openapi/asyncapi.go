package openapi

import (
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/internal/ordered"
	"github.com/taskgen/taskgen/internal/schema"
)

// resultsNote describes the channel of results.
const resultsNote = "The results of runs, which whoever queued a run can wait for. The broker keeps a result for as long as its task says."

// wireNote says how the schemas and the bytes are related.
const wireNote = "Runs travel as MessagePack, in the format of taskgen's docs/wire.md. " +
	"The schemas are those of the JSON form of parameters and results, as the HTTP API has them: " +
	"in MessagePack a time is a timestamp extension, a duration an integer of nanoseconds, and bytes are binary."

// AsyncAPI returns the AsyncAPI 3.0 document of an application that executes the tasks,
// indented: a channel for each queue, and an operation for each task, whose reply is the
// result.
func AsyncAPI(info Info, tasks []Task) ([]byte, error) {
	a := &asyncWriter{
		components: components{names: names{}, known: map[known]string{}},
		queues:     map[string]string{}, channelNames: names{"results": true}, tasks: names{},
	}
	for _, t := range tasks {
		if err := a.task(t); err != nil {
			return nil, err
		}
	}
	info.Description = strings.TrimSpace(info.Description + "\n\n" + wireNote)
	channels := ordered.Object{}
	for i, c := range a.channels {
		channels.Add(c[0].(string), append(c[1].(ordered.Object), ordered.Member{"messages", a.messagesOf[i]}))
	}
	if len(a.results) > 0 {
		channels.Add("results", ordered.Object{{"address", nil}, {"description", resultsNote}, {"messages", a.results}})
	}
	return indented(ordered.Object{
		{"asyncapi", "3.0.0"},
		{"info", infoOf(info)},
		{"defaultContentType", "application/msgpack"},
		{"channels", channels},
		{"operations", a.operations},
		{"components", ordered.Object{{"messages", a.messages}, {"schemas", a.schemas}}},
	})
}

// asyncWriter collects the parts of a document.
type asyncWriter struct {
	components
	queues       map[string]string // the channels of queues
	channelNames names
	tasks        names
	channels     ordered.Object
	messagesOf   []ordered.Object // of each channel, by reference
	results      ordered.Object   // messages of the channel of results, by reference
	operations   ordered.Object
	messages     ordered.Object
}

// channel returns the channel of a queue, and its place in the list.
func (a *asyncWriter) channel(queue string) (name string, at int) {
	name, known := a.queues[queue]
	if !known {
		name = a.channelNames.unused(camel(queue))
		a.queues[queue] = name
		a.channels.Add(name, ordered.Object{{"address", queue}, {"description", "The queue " + queue + "."}})
		a.messagesOf = append(a.messagesOf, nil)
	}
	for i, c := range a.channels {
		if c[0] == name {
			at = i
		}
	}
	return name, at
}

func (a *asyncWriter) task(t Task) error {
	fields, err := schema.ParseParams(t.Params)
	if err != nil {
		return fmt.Errorf("read parameters of task %s: %w", t.Name, err)
	}
	name := a.tasks.unused(camel(t.Name))
	params := a.addType(name+"Params", &schema.Type{Kind: schema.Struct, Fields: fields}, false)
	a.messages.Add(name, a.message(t, t.Name, "A run of "+t.Name, params))
	channel, at := a.channel(t.Queue)
	a.messagesOf[at].Add(name, ordered.Object{{"$ref", "#/components/messages/" + name}})

	o := ordered.Object{
		{"action", "receive"},
		{"channel", ordered.Object{{"$ref", "#/channels/" + channel}}},
		{"title", t.Name},
		{"summary", "Executes a run of " + t.Name + "."},
	}
	if t.Doc != "" {
		o.Add("description", t.Doc)
	}
	if len(t.Tags) > 0 {
		o.Add("tags", tagsOf(t))
	}
	o.Add("messages", []ordered.Object{{{"$ref", "#/channels/" + channel + "/messages/" + name}}})
	if t.Result != "" {
		reply, err := a.result(t, name)
		if err != nil {
			return err
		}
		o.Add("reply", reply)
	}
	a.operations.Add("run"+name, o)
	return nil
}

// result adds the result of a task, and returns the reply that has it.
func (a *asyncWriter) result(t Task, name string) (ordered.Object, error) {
	result, err := schema.Parse(t.Result)
	if err != nil {
		return nil, fmt.Errorf("read result of task %s: %w", t.Name, err)
	}
	message := a.tasks.unused(name + "Result")
	a.messages.Add(message, a.message(t, t.Name+" result", "The result of "+t.Name, a.addType(name+"Result", result, true)))
	a.results.Add(message, ordered.Object{{"$ref", "#/components/messages/" + message}})
	return ordered.Object{
		{"channel", ordered.Object{{"$ref", "#/channels/results"}}},
		{"messages", []ordered.Object{{{"$ref", "#/channels/results/messages/" + message}}}},
	}, nil
}

func (a *asyncWriter) message(t Task, name, title string, payload ordered.Object) ordered.Object {
	o := ordered.Object{{"name", name}, {"title", title}, {"payload", payload}}
	if len(t.Tags) > 0 {
		o.Add("tags", tagsOf(t))
	}
	return o
}

func tagsOf(t Task) (tags []ordered.Object) {
	for _, tag := range t.Tags {
		tags = append(tags, ordered.Object{{"name", tag}})
	}
	return tags
}
