package taskapp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// hasJSONKeys reports whether the type is a map, or has one among its elements, whose keys
// package json does not read: bools and arrays. Structs are left to package json.
func hasJSONKeys(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Map:
		return isJSONKey(t.Key()) || hasJSONKeys(t.Elem())
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return !reflect.PointerTo(t).Implements(jsonType) && t.Name() == "" && hasJSONKeys(t.Elem())
	}
	return false
}

func isJSONKey(t reflect.Type) bool {
	return (t.Kind() == reflect.Bool || t.Kind() == reflect.Array) && !reflect.PointerTo(t).Implements(textType)
}

// setMaps reads JSON into a type of hasJSONKeys. A key is the text of its JSON, such as
// "true" or "[1,2]".
func setMaps(v reflect.Value, text string) error {
	t := v.Type()
	switch {
	case !hasJSONKeys(t):
		return setJSON(v, text)
	case isNull(text):
		v.SetZero()
		return nil
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return setMaps(v.Elem(), text)
	case t.Kind() == reflect.Map:
		return setMap(v, text)
	}
	var elems []json.RawMessage
	if err := setJSON(reflect.ValueOf(&elems).Elem(), text); err != nil {
		return err
	}
	if t.Kind() == reflect.Array && len(elems) != t.Len() {
		return fmt.Errorf("%d elements where %d are expected", len(elems), t.Len())
	}
	if t.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(t, len(elems), len(elems)))
	}
	for i, elem := range elems {
		if err := setMaps(v.Index(i), string(elem)); err != nil {
			return err
		}
	}
	return nil
}

func setMap(v reflect.Value, text string) error {
	t := v.Type()
	var members map[string]json.RawMessage
	if err := setJSON(reflect.ValueOf(&members).Elem(), text); err != nil {
		return err
	}
	made := reflect.MakeMapWithSize(t, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := setKey(key, name); err != nil {
			return fmt.Errorf("the key %q: %w", name, err)
		}
		if made.MapIndex(key).IsValid() {
			return fmt.Errorf("the key %q stands twice", name)
		}
		if err := setMaps(value, string(members[name])); err != nil {
			return fmt.Errorf("of the key %q: %w", name, err)
		}
		made.SetMapIndex(key, value)
	}
	v.Set(made)
	return nil
}

// setKey reads a key. If package json reads keys of the type, it does so here.
func setKey(key reflect.Value, name string) error {
	if isJSONKey(key.Type()) {
		if isNull(name) {
			return errors.New("it is null")
		}
		return setJSON(key, name)
	}
	quoted, err := json.Marshal(map[string]bool{name: true})
	if err != nil {
		return err
	}
	single := reflect.New(reflect.MapOf(key.Type(), reflect.TypeFor[bool]())).Elem()
	if err := setJSON(single, string(quoted)); err != nil {
		return err
	}
	for _, k := range single.MapKeys() {
		key.Set(k)
	}
	return nil
}
