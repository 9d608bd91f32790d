// Package schema has the schema of package ent, which ent/generate.go
// generates.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

// A Note may belong to a topic.
type Note struct{ ent.Schema }

// Fields implements ent.Interface.
func (Note) Fields() []ent.Field { return []ent.Field{field.String("text")} }

// Edges implements ent.Interface.
func (Note) Edges() []ent.Edge {
	return []ent.Edge{edge.From("topic", Topic.Type).Ref("notes").Unique()}
}

// A Topic has notes.
type Topic struct{ ent.Schema }

// Fields implements ent.Interface.
func (Topic) Fields() []ent.Field { return []ent.Field{field.String("name")} }

// Edges implements ent.Interface.
func (Topic) Edges() []ent.Edge { return []ent.Edge{edge.To("notes", Note.Type)} }
