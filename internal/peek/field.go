package peek

import "reflect"

// hidden is the name of a field that counts as missing: see Hide.
var hidden string

// Hide is for tests. Until show is called, no struct has a field of that name.
func Hide(name string) (show func()) {
	hidden = name
	return func() { hidden = "" }
}

// field returns the field of that name in the struct that s points to; nil: it
// has none, or not one of type F. A field of a named type counts as one of the
// basic type beneath.
func field[F any](s any, name string) *F {
	f, is := find(s, name), reflect.TypeFor[F]()
	if !f.IsValid() || f.Type() != is && (f.Kind() != is.Kind() || f.Kind() >= reflect.Array) {
		return nil
	}
	return (*F)(f.Addr().UnsafePointer())
}

// pointerTo returns a pointer to the field, of whatever type; nil: there is
// none.
func pointerTo(s any, name string) any {
	f := find(s, name)
	if !f.IsValid() {
		return nil
	}
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Interface()
}

func find(s any, name string) reflect.Value {
	v := reflect.ValueOf(s).Elem()
	f, ok := v.Type().FieldByName(name)
	if !ok || len(f.Index) != 1 || name == hidden {
		return reflect.Value{}
	}
	return v.Field(f.Index[0])
}
