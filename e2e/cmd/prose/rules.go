package main

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
)

// A finding is a text that breaks a rule.
type finding struct {
	file       string
	line, last int
	rule, text string
}

func (f finding) touches(lines map[int]bool) bool {
	for n := f.line; n <= f.last; n++ {
		if lines[n] {
			return true
		}
	}
	return false
}

// A rule is a pattern that is not to occur.
type rule struct {
	name string
	// re finds the words. If it has a group, the group is what is shown.
	re *regexp.Regexp
	// instead says how to write it.
	instead string
	// in has the kinds of text that the rule is for; 0 is all of them.
	in kind
	// but reports that a match is right after all: before and after are the
	// rest of the text.
	but func(before, match, after string) bool
}

const prose = paragraph | cell | comment

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// endsWith makes a but: the match is right behind one of these words.
func endsWith(suffixes string) func(before, match, after string) bool {
	r := re(`(?i)(?:` + suffixes + `)\s*$`)
	return func(before, _, _ string) bool { return r.MatchString(before) }
}

// question reports that the sentence ends with a question mark.
func question(_, _, after string) bool {
	end := strings.IndexAny(after+".", ".?!")
	return end < len(after) && after[end] == '?'
}

// machine is what does not tell, know, or say. (A caller, a holder, code, and
// a process are told and know.)
const machine = `(?:servers?|kernels?|drivers?|proxy|proxies|logs?|Lockers?|library|databases?|db|systems?|sockets?|sessions?|connections?|` +
	`answers?|flags?|packets?|statements?|queries|query|probe|keep-alive|MySQL|MariaDB|Linux|Router|GET_LOCK|RELEASE_LOCK|CODE)`

// clause is the beginning of a sentence, or of a part of one.
const clause = `(?:^|[.!?;:(]\s+|[—–]\s+)`

var rules = []rule{
	// 1. Name the person or thing.
	{name: "person", re: re(`(?i)\b(?:whoever|whomever|somebody|someone|nobody|anybody|everybody)(?:'s)?\b`), instead: "name the person or thing: caller, holder, waiter, process"},
	{name: "person", re: re(`(?i)\b(?:those|they|all|one|he|him|anyone|everyone|of|by|for|to|than|and|or|but) (who(?:m)?) [a-z]+`), instead: "name the person or thing: a caller that …",
		but: endsWith(`\b(?:answer|asks?|tells?|shows?|sees?|reports?|says?|names?|logs?|prints?|knows?|matters?) (?:\S+ )?`)},
	{name: "person", re: re(clause + `(Who (?:comes|leaves|wants|stays|steps|asks|calls|waits|tries|reads|writes|needs|takes|goes|looks|gives|has|is|does|can|must|may|acquires|uses|runs)\b)`), instead: "name the person or thing: a caller that …",
		in: paragraph | comment, but: question},
	{name: "person", re: re(`\bwho (?:leaves|wants|stays|steps up|stepped up)\b`), instead: "name the person or thing: a caller that …",
		but: endsWith(`\b(?:caller|holder|waiter|reader|user|operator|person)s?,?`)},
	{name: "person", re: re(`(?i)\bothers (?:have|has|are|wait|may|can|could|hold|use|want|get|see|do|took|had|stand|in this)\b`), instead: "name them: other callers, processes, sessions",
		but: endsWith(`\b(?:the|all)`)},
	{name: "person", re: re(`(?i)\b(?:for|behind|than|beside|without|among|before|if|while|when|to) (others)\b`), instead: "name them: other callers, processes, sessions"},
	{name: "person", re: re(`(?i)\b(?:to|for|by|of|before|until|that|and|when) (the next)(?:[.,;:)]|$| (?:has|is|gets|begins|takes|had|may|can|does|comes|waits|starts|runs)\b)`), instead: "name it: the next caller, process, call"},
	{name: "person", re: re(clause + `(The next) (?:has|is|gets|begins|takes|had|may|can|does|comes|waits|in line)\b`), instead: "name it: the next caller, process, call"},

	// 2. No "what" clause as a noun.
	{name: "what", re: re(clause + `(What (?:is|was|are|were|has|have|stands|stood|comes|came|cannot|can|may|might|must|should|does|did|proves|ends|waits|needs|depends|follows|keeps|holds|runs|remains|matters|goes|judges|looks|takes|makes|gives|belongs|had|will|would)\b)`), instead: "name the thing",
		in: paragraph | comment, but: question},
	{name: "what", re: re(`(?i)\b(?:than|by|of|beside|behind|with|and|but) (what (?:is|was|stands|stood|comes|cannot|bounds|has|holds|proves|matters)\b)`), instead: "name the thing", in: prose},

	// 3. "is not a", never "is no".
	{name: "is no", re: re(`(?i)\b(?:is|are|was|were|be|been|becomes) (?:of )?no [a-z]+`), instead: "is not a",
		but: func(before, match, after string) bool {
			return re(`(?i)\bno (?:longer|more|less|fewer|later|earlier|sooner|different|better|worse|such|other)$`).MatchString(match) ||
				re(`(?i)\b(?:CODE|here|there(?: (?:can|may|must|has to|have to|need|should|will|would))?)\s*$`).MatchString(before)
		}},

	// 4. A colon is not a verb.
	{name: "colon", re: re(`[a-z]: \d[\d.,]* ?(?:ms|µs|s|min|h|seconds|minutes|hours)[.;]`), instead: "a colon introduces a list, an example or a cause; use a verb", in: paragraph | comment},

	// 6. Machines report and return.
	{name: "machine", re: re(`\b` + machine + ` (?:tells|tell|knows|know|hears|hear|believes|believe|thinks|said|told|knew)\b`), instead: "machines report, return, detect, log, contain",
		but: func(before, match, after string) bool {
			return re(`(?i)^ (?:it|them|that|so|within|of|by|the truth)\b`).MatchString(after) && re(`told$`).MatchString(match) ||
				re(`(?i)\b(?:can|not|cannot|be|must|to|callers? of the|code of the) \S*\s*$`).MatchString(before)
		}},
	{name: "machine", re: re(`\b(?:servers?|kernels?|drivers?|proxy|proxies|MySQL|MariaDB|Router|GET_LOCK|RELEASE_LOCK|CODE) (?:says?) (?:\d|it|that|so|nothing|no|NULL|OK|CODE)\b`), instead: "it returns, or reports"},
	{name: "machine", re: re(`(?i)\bthe logs? (?:has|have)\b`), instead: "it is logged; the log contains"},

	// 7. No causative "has".
	{name: "has", re: re(`(?i)\b(?:has|have|having|had) (?:the|a|an|it|them|this|that|all|each|every|its|their|hooks|code)(?: [a-z]+| CODE){0,3} (?:fail|know|tell|get|complete|ask|begin|require|write|give|take|see|read|become|verify|send|make|verified|asked|repeated|told|done|sent|written|closed)\b`), instead: "makes, lets, or the verb itself",
		but: func(before, match, after string) bool {
			return strings.Contains(match, " been ") || re(`(?i)\b(?:to|that|which|who|and|or|not|then|when|where|as|is|was|are|were|of|in|on|for|code|it) (?:[a-z]+)$`).MatchString(match) && !re(`(?i)^(?:has|have|had|having) it `).MatchString(match)
		}},

	// 8. No riddles.
	{name: "riddle", re: re(`\bTo [a-z]+ [^.;]*\b(?:is|was) to [a-z]+`), instead: "say what happens"},
	{name: "riddle", re: re(`(?i)\bis to be (?:asked|called|had|taken|given|seen|done|made|read|found|written|closed|run|used|held|released)\b`), instead: "an order: call it once",
		in: prose},
	{name: "riddle", re: re(`(?i)\b(?:to be had|not to be had)\b`), instead: "available"},

	// 9. No trailing words.
	{name: "trailing", re: re(`(?i)\b(?:too|also|as ever)[.;)]`), instead: "leave it out, or put also before the verb", in: prose | literal,
		but: func(before, match, after string) bool {
			return re(`(?i)\b(?:but|not only|far|much|and)\s*$`).MatchString(before)
		}},
	{name: "trailing", re: re(`(?i),? \bsay[,.;)]`), instead: "for example, before it",
		but: endsWith(`\b(?:no|not|they|to|cannot|can|must|may|will|I|we|you|docs|logs|errors?|texts?|pages?|lines?|it)`)},
	{name: "trailing", re: re(`(?i)\bat all\b(?:[.,;:)]|$)`), instead: "leave it out",
		but: endsWith(`\bor not`)},
	{name: "trailing", re: re(`(?i)\bas ever\b|\bas well[.;)]`), instead: "leave it out"},
	{name: "trailing", re: re(`(?i)\bsuch [a-z]+s? too\b|\bby itself too\b`), instead: "name the thing"},

	// 10. Current words.
	{name: "word", re: re(`(?i)\bfor ?ever\b`), instead: "indefinitely", but: func(_, match, _ string) bool { return !strings.Contains(match, " ") }},
	{name: "word", re: re(`(?i)\bbut for\b`), instead: "except for"},
	{name: "word", re: re(`(?i)\bbeside\b`), instead: "in addition to, next to, besides"},
	{name: "word", re: re(`(?i)\bmeanwhile\b`), instead: "in the meantime, or leave it out"},
	{name: "word", re: re(`(?i)\bin vain\b`), instead: "without success"},
	{name: "word", re: re(`(?i)\bas a rule\b`), instead: "usually"},
	{name: "word", re: re(`(?i)\bmend(?:s|ed|ing)?\b`), instead: "fix"},
	{name: "word", re: re(`(?i)\b(?:stands?|stood|standing) (?:in|before|behind|beside|there|between|on|alone|for (?:leader|it|the)|as|above|below|open)\b`), instead: "is in, is before, comes after",
		but: func(_, match, after string) bool {
			return strings.HasSuffix(match, "in") && strings.HasPrefix(after, " for")
		}},
	{name: "word", re: re(`(?i)\bstands? in (?:the )?line\b`), instead: "queue"},
	{name: "word", re: re(`(?i)\b(?:goes|go|come|comes|came|right|just|one|directly) (behind)\b`), instead: "after",
		but: func(_, _, after string) bool { return re(`^ a (?:proxy|load|NAT)`).MatchString(after) }},
	{name: "word", re: re(`(?i)\bfit for\b`), instead: "suitable for"},
	{name: "word", re: re(`(?i)\banew\b`), instead: "again, starts over"},
	{name: "word", re: re(`(?i)\bspelt\b`), instead: "spelled; written as literals"},
	{name: "word", re: re(`(?i)\bhand(?:s|ed)? on\b`), instead: "pass on", but: endsWith(`\bby|on`)},

	// 12. The unit and the bound.
	{name: "bound", re: re(`(?i)\bnoticeably\b`), instead: "the number"},

	// 13. One term for a thing.
	{name: "term", re: re(`(?i)\b(?:place|places|stands?|waits?|wait|waiting|next|first|step(?:s|ped)? up) in (?:the |a |its |their |)(?:server's )?line\b|\b(?:leaves?|leaving|joins?|in) the line of\b|\b(?:leaves?|left|joins?) the line\b`), instead: "queue"},
	{name: "term", re: re(`(?i)\bgoodbye\b`), instead: "COM_QUIT", in: prose | heading},

	// 14. Errors and log lines.
	{name: "message", re: re(`(?i)\bwhich [a-z ]+\?`), instead: "not a question: what happened, the cause, what to do", in: literal},
}

// mostWords is the limit for a sentence. The rule is 25; up to 30 is left to
// the author.
const mostWords = 30

func check(file string, content []byte) []finding {
	var texts []text
	var wide []int
	limit := 120
	if strings.HasSuffix(file, ".go") {
		texts, wide = goFile(file, string(content))
		limit = 80
	} else {
		texts, wide = markdown(string(content))
	}
	var findings []finding
	for _, n := range wide {
		findings = append(findings, finding{file, n, n, "width", fmt.Sprintf("more than %d columns", limit)})
	}
	seen := map[string]bool{}
	for _, t := range texts {
		for _, f := range t.check() {
			f.file = file
			key := fmt.Sprint(f)
			if !seen[key] {
				seen[key] = true
				findings = append(findings, f)
			}
		}
	}
	sort.SliceStable(findings, func(i, j int) bool { return findings[i].line < findings[j].line })
	return findings
}

func (t text) check() (findings []finding) {
	for _, r := range rules {
		if r.in != 0 && r.in&t.kind == 0 {
			continue
		}
		for _, m := range r.re.FindAllStringSubmatchIndex(t.s, -1) {
			from, to := m[0], m[1]
			if len(m) > 2 && m[2] >= 0 {
				from, to = m[2], m[3]
			}
			if r.but != nil && r.but(t.s[:from], t.s[from:to], t.s[to:]) {
				continue
			}
			findings = append(findings, finding{
				line: t.lines[from], last: t.lines[to-1], rule: r.name,
				text: fmt.Sprintf("%q in %q (%s)", t.s[from:to], excerpt(t.s, from, to), r.instead),
			})
		}
	}
	if t.kind&(paragraph|comment) != 0 {
		findings = append(findings, t.long()...)
	}
	return findings
}

func excerpt(s string, from, to int) string {
	from, to = max(0, from-30), min(len(s), to+30)
	for from > 0 && s[from-1] != ' ' {
		from--
	}
	for to < len(s) && s[to] != ' ' {
		to++
	}
	return s[from:to]
}

var (
	sentenceEnd = re(`[.!?][")]?(?:\s+|$)`)
	word        = re(`[\pL\d]`)
)

// long returns the sentences that have too many words.
func (t text) long() (findings []finding) {
	from := 0
	for _, m := range append(sentenceEnd.FindAllStringIndex(t.s, -1), []int{len(t.s), len(t.s)}) {
		before := t.s[from:m[0]]
		if strings.HasSuffix(before, "e.g") || strings.HasSuffix(before, "i.e") || strings.HasSuffix(before, " vs") {
			continue
		}
		n := 0
		for _, w := range strings.Fields(before) {
			if word.MatchString(w) {
				n++
			}
		}
		if n > mostWords {
			findings = append(findings, finding{
				line: t.lines[from], last: t.lines[max(from, m[0]-1)], rule: "long",
				text: fmt.Sprintf("a sentence of %d words: %q", n, before[:min(len(before), 60)]+"…"),
			})
		}
		from = m[1]
	}
	return findings
}
