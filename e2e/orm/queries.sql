-- name: InsertNote :exec
INSERT INTO notes (text) VALUES (?);

-- name: UpdateNote :exec
UPDATE notes SET text = sqlc.arg(new_text) WHERE text = sqlc.arg(old_text);
