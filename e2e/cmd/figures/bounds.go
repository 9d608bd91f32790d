package main

// bounds are limits for the figures of the core. A change that makes the core
// smaller lowers them. A change that makes it larger needs a reason.
//
// The goals come from a reading of the core at commit 357403e. By these counts
// that commit has 112 functions, 252 fields and 6,443 lines. The reading itself
// counted 116 functions, and 167 fields in eleven of the 34 types.
var bounds = struct{ passed, fields, lines, slotFields, slotLines, functions, files, arrows int }{
	passed:     84,
	fields:     239,
	lines:      8031,
	slotFields: 28,
	slotLines:  719,
	functions:  0,
	files:      0,
	arrows:     0,
}
