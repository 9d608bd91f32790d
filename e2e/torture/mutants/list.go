package main

// A mutant is the library with one promise broken. In each file a new snippet
// replaces an old one, which must occur once.
type mutant struct {
	name  string
	edits []edit
	test  *test // the test that catches it, if torture cannot detect it; nil: torture catches it
}

// A test is a test of the library, in a package below its root.
type test struct{ dir, name string }

type edit struct{ file, old, new string }

func change(name, file, old, new string) mutant {
	return mutant{name: name, edits: []edit{{file, old, new}}}
}

// caughtBy returns the mutant with a test in place of torture.
func (m mutant) caughtBy(dir, name string) mutant {
	m.test = &test{dir, name}
	return m
}

var mutants = []mutant{
	change("release skipped on panic", "lock.go",
		"lost, _ = k.release() // RELEASE_LOCK",
		"if !ended {\n\t\t\treturn\n\t\t}\n\t\tlost, _ = k.release()"),
	change("release on the caller's context", "lock.go",
		"lost, _ = k.release() // RELEASE_LOCK",
		"if ctx.Err() != nil {\n\t\t\treturn\n\t\t}\n\t\tlost, _ = k.release()"),
	change("connection pooled after a failed release", "internal/server/end.go",
		"\terr := c.raw(c.closeConn)\n",
		"\terr := c.raw(func(driver.Conn) error { return nil })\n\t_ = c.conn.Close()\n"),
	change("loss not reported", "internal/queue/grant.go",
		"\t\thanded, err = g.unlock()\n\t}\n",
		"\t\thanded, err = g.unlock()\n\t} else {\n\t\terr = nil\n\t}\n"),
	change("loss not told to the code under the lock", "internal/queue/grant.go",
		"\tg.end(cancel, cause)\n\treturn end == lost\n",
		"\t_, _ = cancel, cause\n\treturn end == lost\n"),
	change("hand-off without a look at the socket", "internal/queue/handoff.go",
		"\tif !g.session.SocketOpen() {\n\t\treturn false\n\t}\n",
		"").
		caughtBy("internal/queue", "TestHandOff_LooksAtTheSocket"), // the kernel reports the hang-up to the watch at once
	change("hand-off to another name", "internal/queue/waiter.go",
		"return w.name == name && ",
		"return "),
	change("folding left out", "internal/names/names.go",
		"func Fold(name string) string {",
		"func Fold(name string) string {\n\tif name != \"\" {\n\t\treturn name\n\t}"),
	change("cancelled grant kept by its caller", "internal/queue/grant.go",
		"Aside(nil, timer.C, release)",
		"Aside(nil, timer.C, func() error { return nil })"),
	change("unwanted grant kept", "internal/queue/asker.go",
		"\t\t_ = s.ReleaseLock(w.name)",
		"\t\t// not released"),
	change("slots without the gate", "internal/slot/call.go",
		"name := names.Gate(c.name)",
		"name := names.Gate(c.name)+fmt.Sprintf(\"%p\", c)").
		caughtBy("internal/slot", "TestSlot_InOrder"),
	change("two callers told the same slot", "slot.go",
		"slot := lock.slot.Number",
		"slot := 0"),
	change("slots of one process each", "internal/slot/call.go",
		"c.names[i] = names.Slot(name, i)",
		"c.names[i] = names.Slot(name, i)+fmt.Sprintf(\"%p\", s)"),
	change("one slot too many", "internal/slot/call.go",
		"\tc := &call{\n",
		"\tn++\n\tc := &call{\n"),
	change("gate kept when no slot was free", "internal/slot/call.go",
		"\t\tqueue.Abandon(gate.Release)\n\t}()\n\tg, err = c.search(gate)",
		"\t}()\n\tg, err = c.search(gate)"),
	change("a term's lock given away between its transactions", "term.go",
		"\terr = tx.run(ctx, fnCtx, opts, fn)\n",
		"\terr = tx.run(ctx, fnCtx, opts, func(ctx context.Context, tx *sql.Tx) error {\n"+
			"\t\tname := t.lock.grant.Name()\n"+
			"\t\tif _, err := tx.ExecContext(ctx, \"DO RELEASE_LOCK(?), GET_LOCK(?, 10)\", name, name); err != nil {\n\t\t\treturn err\n\t\t}\n"+
			"\t\treturn fn(ctx, tx)\n\t})\n"),
	change("slot kept whose gate was lost", "internal/slot/call.go",
		"\t\t_ = g.Release() // it was on the same session\n",
		"").
		caughtBy("internal/slot", "TestSlot_TheGateIsLost"),
	change("release of a slot not noted", "internal/slot/slot.go",
		"\tg.group.free(g)\n", "").
		caughtBy("internal/slot", "TestSlot_LocalReleaseWakes"),
	change("slot left that a wait was granted as it ended", "internal/server/holders.go",
		"\t\tif !ours[i].Bool {\n",
		"\t\tif !ours[i].Bool || true {\n").
		caughtBy("internal/server", "TestGetLockThenLook"),
	change("a wait enters a lock that the try has left", "internal/server/lock.go",
		"if err := c.readyFor(name); err != nil {", "if err := c.readyFor(name); err != nil && wait <= 0 {").
		caughtBy("internal/server", "TestGetLock_TheTryLeavesALock"),
	change("keep-alive that only pings", "internal/server/prove.go",
		"if !owned[i].Bool {",
		"if !owned[i].Bool && false {").
		caughtBy(".", "TestAProofNeedsAnAnswer"),
	change("keep-alive never sent", "internal/pool/watch.go",
		"case now >= s.due:",
		"case now >= s.due && false:"),
	change("sockets not looked at", "internal/pool/watch.go",
		"probe := len(hungUp) > 0 || p.Probe > 0 &&",
		"probe := p.Probe < 0 &&"),
	change("last in, first out", "internal/queue/queue.go",
		"\tl.joinLocked(w)\n",
		"\tif w.next = l.front; w.next != nil {\n\t\tw.next.prev = w\n\t} else {\n\t\tl.back = w\n\t}\n\tl.front = w\n"),
	change("one's own lock waited for", "internal/queue/waiter.go",
		"case w.chain.holds(l.holder):",
		"case w.chain.holds(l.holder) && false:"),
	change("grant ahead forgotten by the release before it", "internal/queue/grant.go",
		"\tif g.line.holder == g { // and not a grant that was prefetched\n\t\tg.line.holder = nil\n\t}\n",
		"\tg.line.holder = nil\n"),
	change("name open again before its code has ended", "internal/queue/grant.go",
		"\t\tg.state, g.why = end, why\n",
		"\t\tg.state, g.why = end, why\n\t\tg.line.holder = nil\n\t\tq.advanceLocked(g.line)\n"),
	change("second release goes through", "internal/queue/grant.go",
		"\tif g.state == released {\n\t\tdefer q.mu.Unlock()\n\t\treturn g.why\n\t}\n",
		""),
	change("waits a little too short", "internal/queue/waiter.go",
		"return time.Now().Add(left)",
		"return time.Now().Add(left * 9 / 10)"),
	change("waits too long", "internal/queue/waiter.go",
		"return time.Now().Add(left)",
		"return time.Now().Add(left + time.Second)"),
	change("clock not checked", "internal/queue/waiter.go",
		"\tcase !now.Before(w.deadline):\n\t\tq.withdrawLocked(w, w.timedOutLocked())\n",
		"\tcase !now.Before(w.deadline):\n"),
	change("cancel not heard", "internal/queue/queue.go",
		"\tcase <-done:\n",
		"\tcase <-done:\n\t\ttime.Sleep(400*time.Millisecond)\n"),
	change("a caller that leaves keeps the turn", "internal/queue/queue.go",
		"\treturn w.err\n}\n\nfunc (q *Queue) withdrawLocked",
		"\treturn err\n}\n\nfunc (q *Queue) withdrawLocked"),
	change("cause of the context forgotten", "internal/queue/waiter.go",
		"fmt.Errorf(\"stopped waiting: %w: %w\", err, cause)",
		"fmt.Errorf(\"stopped waiting: %w: %v\", err, cause)"),
	change("driver's error forgotten", "internal/server/conn.go",
		"return fault.Because(fault.ErrUnavailable, \"session closed after an error\", err)",
		"return fault.Because(fault.ErrUnavailable, \"session closed after an error\", nil)"),
	change("RELEASE_LOCK not believed in", "internal/server/lock.go",
		"\tcase !answer.Valid:\n\t\tc.broken = errors.New(\"RELEASE_LOCK returned NULL: no session holds the lock\")\n",
		"\tcase !answer.Valid:\n\t\treturn nil\n"),
	change("idle sessions not given back", "internal/pool/end.go",
		"\t\tdefer p.remove(s)\n\t\tp.giveBack(s.Conn)\n",
		"\t\tdefer p.remove(s)\n"),
	change("a session goes back during a turn on it", "internal/pool/end.go",
		"\t\tif s.status == idle {\n\t\t\tp.giveBackLocked(s)", "\t\tif s.live() {\n\t\t\tp.giveBackLocked(s)").
		caughtBy("internal/pool", "TestPool_CloseDuringATurn"),
	change("the end of a session given back awaited without success", "internal/pool/end.go",
		"\t\tp.giveBack(s.Conn)\n\t\tclose(s.ended)\n", "\t\tp.giveBack(s.Conn)\n").
		caughtBy("internal/pool", "TestPool_AwaitEndOfASessionGivenBack"),
	change("Close does not wait", "internal/queue/close.go",
		"\tfor q.active > 0 {\n",
		"\tfor q.active > 0 && false {\n"),
	change("Shutdown gives up before it refuses", "locker.go",
		"\t\tl.queue.Refuse() // first, so that no caller is granted a lock that is given up below\n",
		"").
		caughtBy(".", "TestShutdownAtOnceLeavesNothingHeld"),
	change("a closed db asked again and again", "internal/pool/open.go",
		"closed := closedError(p.db); closed != nil {", "closed := closedError(p.db); closed != nil && false {").
		caughtBy(".", "TestLeadReturnsIfTheDBIsClosed"),
	change("no pause between terms that are lost soon", "lead.go",
		"\treturn o.losses > 1\n",
		"\treturn false\n").
		caughtBy(".", "TestLeadPausesBetweenTermsThatAreLostSoon"),
	change("RELEASE_LOCK before the end of the context", "internal/queue/grant.go",
		"\tg.end(cancel, cause)\n\thanded := false\n\tif err == nil {\n\t\thanded, err = g.unlock()\n\t}\n",
		"\thanded := false\n\tif err == nil {\n\t\thanded, err = g.unlock()\n\t}\n\tg.end(cancel, cause)\n").
		caughtBy(".", "TestTheContextEndsBeforeRELEASE_LOCK"),
	change("lock released before the commit", "tx.go",
		"err = grant.Commit()",
		"_ = t.lock.Release()\n\terr = grant.Commit()").
		caughtBy(".", "TestWithLockTxSendsFiveStatements"),
	change("commit though the context has ended", "tx.go",
		"if fnCtx.Err() != nil {",
		"if false {").
		caughtBy(".", "TestWithLockTxRollsBack"),
	change("no rollback after a panic", "tx.go",
		"if t.stage == running {",
		"if false {").
		caughtBy(".", "TestWithLockTxRollsBack"),
	change("transaction left open after a refused commit", "internal/server/tx.go",
		"\t\tc.must(c.endTime(), \"ROLLBACK\")\n\t\tc.endTx()\n", "\t\tc.endTx()\n").
		caughtBy("internal/server", "TestTx_AnswersToCommit"),
	change("session of a transaction shared at the cap", "internal/pool/turn.go",
		"shares := !s.exclusive() && ",
		"shares := ").
		caughtBy("internal/pool", "TestOwn_NobodyElseHasATurn"),
	change("session of a transaction with locks of others", "internal/pool/choose.go",
		"\treturn len(s.holds) == 0\n",
		"\treturn true\n").
		caughtBy("internal/pool", "TestOwn_NoLocksOfOthers"),
	change("proofs between a transaction's rows", "internal/server/probe.go",
		"tx != nil && peek.RowsOpen(tx)",
		"tx != nil && false").
		caughtBy("e2e", "TestPromise32_KeepAliveBesideSlowRows"),
	change("a waiter for a session not told that there is none", "internal/pool/hold.go",
		"\tp.wakeIfNoneIsFreeSoonLocked()\n", "").
		caughtBy("internal/pool", "TestOwn_WhoWaitsIsTold"),
	change("COM_QUIT for a session in doubt", "internal/server/end.go",
		"if state := c.stateOf(conn); state != Closed", "if state := c.stateOf(conn); false && state != Closed").
		caughtBy("e2e", "TestPromise16_NoGoodbyeThroughAPool"),
	change("a swallowed lease counted on", "internal/server/lease.go",
		"\tif integer(seconds) == c.server.leaseSeconds() {", "\tif true {").
		caughtBy("internal/pool", "TestLease_Swallowed"),
	change("what the answer to a wait says of the server not looked at", "internal/server/check.go",
		"\t\terr = c.checkServer(c.atGrant, nil)\n", "\t\terr = nil\n").
		caughtBy("internal/queue", "TestRun_TheAnswerToTheWaitSaysWhetherTheServerIsWritable"),
	change("no pause after a grant that is refused", "internal/queue/wait.go",
		"return polls //", "return next //").
		caughtBy("internal/queue", "TestRun_EachGrantIsRefused"),
	change("a pause after each grant that dies", "internal/queue/wait.go",
		"granted && elapsed < pollInterval && ", "granted && ").
		caughtBy("internal/queue", "TestRun_KilledAtTheGrantShortlyBeforeTheTimeout"),
	change("no question after a wait", "internal/queue/wait.go",
		"\t\t\terr = confirm(s, wt.name)\n", "\t\t\terr = nil\n").
		caughtBy("e2e", "TestPromise22_DemotedDuringTheWait"),
	change("a demoted server's idle connection shows", "internal/pool/choose.go",
		"(s.Broken() || errors.Is(err, fault.ErrReadOnly))", "(s.Broken() || errors.Is(err, fault.ErrClosed))").
		caughtBy("e2e", "TestPromise22_ADemotedServerIsLeft"),
	change("a term ends before its transaction", "term.go",
		"\t\tterm.turn <- struct{}{} //", "\t\t//").
		caughtBy(".", "TestTermTransactionsTakeTurns"),
	change("a term in the place of other Lockers' locks", "internal/queue/chain.go",
		"if key == any(c.grant.line.queue) {", "if _, is := key.(*Queue); is {").
		caughtBy("internal/queue", "TestChain_LocksOfSeveralLockers"),
	change("a leader resigns by a loss", "lead.go",
		"case led && lost == nil:", "case led:").
		caughtBy(".", "TestLeadGoesOnAfterALossThatTheReleaseFinds"),
	change("a hook before the deferred release", "lock.go",
		"\tdefer func() {\n\t\tlost, _ = k.release()", "\tk.call.got(ctx)\n\tdefer func() {\n\t\tlost, _ = k.release()").
		caughtBy(".", "TestAHookThatMisbehavesKeepsNoLock"),
	change("Shutdown leaves the locks", "internal/queue/close.go",
		"\t\t\tq.pool.GiveUp(l.holder.session, cause)", "\t\t\t//").
		caughtBy(".", "TestShutdownIsBounded"),
	change("a wait ends with the server", "internal/queue/retry.go",
		"case (broken || s == nil) && ", "case broken && ").
		caughtBy("internal/queue", "TestOutage_AWaitWithABoundGoesOn"),
	mutant{name: "lock and transaction on two sessions", edits: []edit{
		{"internal/pool/pool.go", "\tp.share.join(p)\n", "\tp.share.join(p)\n\tserver.AnyDB = db\n"},
		{"internal/server/tx.go", "c.conn.BeginTx(c.ctx, opts)", "AnyDB.BeginTx(c.ctx, opts)"},
		{"internal/server/tx.go", "const txTime =", "var AnyDB *sql.DB\n\nconst txTime ="},
	}}.caughtBy("e2e", "TestPromise25_OneSession"),
	change("time to connect not taken off", "internal/pool/open.go",
		"\t\tleft -= took\n", "\t\t_ = took\n").
		caughtBy("internal/pool", "TestPool_OpeningIsBoundedAsAWhole"),
	change("own name taken by a try left behind", "internal/queue/asker.go",
		"return w != nil || a.phase == trying", "return w != nil").
		caughtBy("internal/queue", "TestRun_TryLeftBehind"),
	change("own name taken by a wait left behind", "internal/queue/wait.go",
		"\t\tif granted {\n\t\t\ta.phase = trying\n\t\t}\n", "").
		caughtBy("internal/queue", "TestRun_WaitLeftBehind"),
	change("broken connection pooled by Inspect", "internal/pool/beside.go",
		"if !stop() || c.Broken() || errors.Is(err, fault.ErrReadOnly) {", "if !stop() || errors.Is(err, fault.ErrClosed) {").
		caughtBy("internal/pool", "TestInspect_BrokenConnectionIsNotPooled"),
	change("names sent as they are in every character set", "internal/server/spell.go",
		"c.literals = !c.greeting.harmless", "c.literals = false").
		caughtBy(".", "TestHowANameIsSpelt"),
	change("a caller that chooses again waits behind later ones", "internal/pool/choose.go",
		"if since.IsZero() {", "if true {").
		caughtBy("internal/pool", "TestPool_ChoosingAgainKeepsTheOrder"),
	change("polls do not make way", "internal/pool/choose.go",
		"k.priority = poll", "k.priority = first").
		caughtBy("internal/queue", "TestRun_PollsMakeWay"),
	change("a timer counts only while its caller is asked for", "internal/queue/waiter.go",
		"\tcase w.isServed():\n", "\tcase w.isServed() || !w.busy && !now.Before(w.deadline):\n").
		caughtBy("internal/queue", "TestOutage_ATimerThatRunsCounts"),
	change("a wait ends with its second session", "internal/queue/retry.go",
		"case (broken || s == nil) && ", "case s == nil && ").
		caughtBy("internal/queue", "TestOutage_TheFreshSessionDiesToo"),
	change("an unwanted question", "internal/queue/asker.go",
		"case a.line.asker != a: // an answer", "case false: // an answer").
		caughtBy("internal/queue", "TestRun_NobodyWantsTheQuestion"),
	change("asked ahead behind a transaction", "internal/queue/prefetch.go",
		"if g.OwnSession() || next == nil", "if next == nil").
		caughtBy("internal/queue", "TestAhead_NotForATransaction"),
	change("asked ahead, or passed on, for a transaction", "internal/queue/waiter.go",
		"w.chain.empty() && !w.OwnSession()", "w.chain.empty()").
		caughtBy("internal/queue", "TestAhead_NotForATransaction"),
	change("a cancel waits for the release", "internal/queue/grant.go",
		"Aside(nil, timer.C, release)", "Aside(nil, nil, release)").
		caughtBy("internal/queue", "TestQueue_ACancelMeetsTheGrantOnASilentNetwork"),
	change("a nested lock outside its transaction", "internal/pool/choose.go",
		"home.status == waiting && home.claim == untilEmpty", "false").
		caughtBy("internal/pool", "TestOwn_TheChainsCallsGoNowhereElse"),
	change("a nested wait keeps the rest of its chain away", "internal/pool/waits.go",
		"s.claim == untilEmpty && p.wantedLocked(s, poll) || ", "").
		caughtBy("internal/pool", "TestOwn_TheChainsCallsGoNowhereElse"),
	change("a KILL during open rows not noticed", "internal/pool/watch.go",
		"state == server.Occupied && hungUp", "false").
		caughtBy("e2e", "TestPromise11_TheKernelTellsBesideOpenRows"),
	change("a KILL not noticed under rows that have been open for long", "internal/pool/watch.go",
		"errors.Is(err, server.ErrOccupied) && hungUp", "hungUp && false").
		caughtBy("internal/pool", "TestWatch_HungUpUnderRows"),
	change("a lock that has gone not noticed between rows", "internal/pool/watch.go",
		"next, proved, holds = begun, false, nil", "next, proved, holds = begun+s.Interval()/8, false, nil").
		caughtBy("internal/pool", "TestWatch_BetweenRows"),
	change("a silent server taken for a db without a free connection", "internal/pool/open.go",
		"if p.exhausted() {\n\t\tselect", "if false {\n\t\tselect").
		caughtBy("internal/pool", "TestPool_SilentServerAtTheLastConnection"),
	change("a lock granted on a session that was killed", "internal/pool/waits.go",
		"\tif s.killed {", "\tif false {").
		caughtBy("internal/queue", "TestWait_GrantedOnASessionThatWasKilled"),
	mutant{name: "a lock granted on a session that died at the question", edits: []edit{
		{"internal/queue/asker.go", "if s.Broken() {\n\t\treturn fault", "if false {\n\t\treturn fault"},
		{"internal/queue/asker.go", "\tq.pool.Put(s)\n\tq.serveLocked(first, nil)\n\tq.mu.Unlock()\n",
			"\tq.serveLocked(first, nil)\n\tq.mu.Unlock()\n\tq.pool.Put(s)\n"},
	}}.caughtBy("internal/queue", "TestRun_TheQuestionAfterTheGrantDies"),
	change("a wait killed under its chain's locks", "internal/pool/waits.go",
		"|| len(s.holds) > 0 || s.Lent() {", "|| s.Lent() {").
		caughtBy("internal/pool", "TestPool_KillWait"),
	change("a caller that steps up waits for the next poll", "internal/queue/queue.go",
		"\t\ta.stepUpLocked()\n", "").
		caughtBy("internal/queue", "TestRun_WhoStepsUpEndsThePause"),
	change("overdue behind a statement of its own code", "internal/pool/watch.go",
		"case !s.UsedByCode() && s.isOverdue(now):", "case s.isOverdue(now):").
		caughtBy("internal/pool", "TestWatch_SharedIsNotOverdue"),
	change("a chain's session with locks of others made its own", "internal/pool/choose.go",
		"return len(s.holds) == req.Mine", "return true").
		caughtBy("internal/pool", "TestOwn_TransactionsUnderASharedSession"),
	change("the db's last connection taken", "internal/pool/share.go",
		"limit > 0 && sh.taken >= limit", "limit > 0 && sh.taken > limit").
		caughtBy("internal/pool", "TestOwn_BoundedByTheDB"),
	change("the db's connections taken without a limit", "internal/pool/share.go",
		"if limit > 0 && sh.taken >= limit {", "if limit < 0 {").
		caughtBy("internal/pool", "TestShare_PoolsOfOneDB"),
	change("one leader too many", "internal/pool/share.go",
		"sh.leaders+1 > open-2", "sh.leaders > open-2").
		caughtBy("internal/pool", "TestShare_Leaders"),
	change("an empty session used beyond the cap", "internal/pool/choose.go",
		"if req.Own || p.mayShareLocked(s, limits) {", "if true {").
		caughtBy("internal/pool", "TestShare_TheCapIsKept"),
	change("an empty session passed on beyond the cap", "internal/pool/cap.go",
		"p.towardsCapLocked(s) < limits.shared", "p.towardsCapLocked(s) <= limits.shared").
		caughtBy("internal/pool", "TestShare_TheCapIsKept"),
	change("a session opened beyond the cap", "internal/pool/open.go",
		"p.towardsCapLocked(nil) >= limits.shared", "p.towardsCapLocked(nil) > limits.shared").
		caughtBy("internal/pool", "TestPool_SharesOnlyBeyondTheCap"),
	change("another session opened beyond the cap", "internal/pool/spare.go",
		"p.towardsCapLocked(nil) >= limits.shared", "p.towardsCapLocked(nil) > limits.shared").
		caughtBy("internal/pool", "TestShare_TheCapIsKept"),
	change("the cap's last session waits", "internal/pool/waits.go",
		"p.blockedLocked()+1 >= limits.shared", "p.blockedLocked()+1 > limits.shared").
		caughtBy("internal/pool", "TestPool_LeaveToWait"),
	change("callers that share starve a caller that needs a session alone", "internal/pool/cap.go",
		"taken < limits.all {", "taken < limits.all || true {").
		caughtBy("internal/pool", "TestOwn_IsNotStarvedByThoseWhoShare"),
	change("callers that share starve a caller that needs a session alone, by one", "internal/pool/cap.go",
		"taken < limits.all {", "taken <= limits.all {").
		caughtBy("internal/pool", "TestOwn_IsNotStarvedByThoseWhoShare"),
	change("no connection more for a transaction under a shared lock", "internal/pool/open.go",
		"\t\tlimits.all++\n", "").
		caughtBy("internal/pool", "TestOwn_TransactionsUnderASharedSession"),
	change("COMMIT without a look at the socket", "internal/server/tx.go",
		"err = c.Probe().Cause()", "err = nil").
		caughtBy("internal/server", "TestTx_ClosedBeforeCommit"),
	change("a wrapper not seen through", "internal/peek/conn.go",
		"inner = beneath(conn, unwrap, logger)", "inner = nil").
		caughtBy("internal/server", "TestUnwrap_SeenThrough"),
	change("a wrapper of two connections seen through", "internal/peek/unwrap.go",
		"!(reflect.ValueOf(conn).Comparable() && only == conn)", "false").
		caughtBy("internal/server", "TestUnwrap_NotSeenThrough"),
	change("a closed connection in the pool behind a wrapper", "internal/server/end.go",
		"_ = c.raw(func(driver.Conn) error { return driver.ErrBadConn })", "_ = c.conn.Close()").
		caughtBy("internal/server", "TestUnwrap_SharedIsDiscarded"),
	change("the code of a term's transaction not told of the loss", "term.go",
		"\tdefer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()\n", "").
		caughtBy(".", "TestTermTransactionIsToldOfTheLoss"),
	change("a try waits in an outage", "internal/queue/retry.go",
		" || each.terms.Left == 0", "").
		caughtBy("internal/queue", "TestOutage_ATryIsToldAtOnce"),
	change("a refusal never believed under a wait", "internal/queue/retry.go",
		"case time.Since(r.refused) > refusedFor:", "case false:").
		caughtBy("internal/queue", "TestOutage_ARefusalStands"),
	change("a refusal remembered after its end", "internal/queue/asker.go",
		"a.retry = retry{slice: a.retry.slice}", "a.retry = retry{slice: a.retry.slice, refused: a.retry.refused}").
		caughtBy("internal/queue", "TestOutage_TheNextBeginsAnew"),
	change("an outage begins with the pause of the last", "internal/queue/asker.go",
		"a.retry = retry{slice: a.retry.slice}", "a.retry = retry{slice: a.retry.slice, pause: a.retry.pause}").
		caughtBy("internal/queue", "TestOutage_TheNextBeginsAnew"),
	change("no pause before the third term", "lead.go",
		"\treturn o.losses > 1\n", "\treturn o.losses > 2\n").
		caughtBy(".", "TestLeadPausesBetweenTermsThatAreLostSoon"),
	change("a bound that has passed not noticed", "internal/server/statement.go",
		"if !c.silence.Stop() {", "if !c.silence.Stop() && false {").
		caughtBy("internal/server", "TestWire_SilenceEndsAStatement"),
	change("a transaction's bound that has passed not noticed", "internal/server/tx.go",
		"return c.ended(err, begun, bound)", "_ = c.ended(err, begun, bound)\n\treturn err").
		caughtBy("internal/server", "TestTx_ABoundThatPassesAtTheEnd"),
	change("a session no longer its chain's own after a proof", "internal/pool/turn.go",
		"\tif s.claim == forTurn { // as", "\tif false { // as").
		caughtBy("internal/pool", "TestOwn_YieldKeepsIt"),
	change("a leader's session counts after a proof", "internal/pool/turn.go",
		"Request{Own: true, Lead: s.leads}", "Request{Own: true}").
		caughtBy("internal/pool", "TestOwn_YieldKeepsIt"),
	change("a transaction that has ended counts as committed", "internal/server/status.go",
		"err == nil && state != txOpen {", "err == nil && state != txOpen && false {").
		caughtBy("internal/server", "TestTx_EndedUnderItsCode"),
	change("the savepoint not checked in addition to the flags", "internal/server/status.go",
		"case c.greeting.hidesDeadlocks():", "case false:").
		caughtBy("internal/server", "TestTx_DeadlockThatTheFlagsHide"),
	change("a transaction that has ended counts as rolled back", "internal/server/tx.go",
		"if err := c.stillOpen(tx, cause); err != nil {", "if err := error(nil); err != nil {").
		caughtBy("internal/server", "TestTx_EndedByAnotherRollback"),
	change("a Commit of the code that comes late counts as rolled back", "internal/server/tx.go",
		"c.afterCodesEnd()\n\t\treturn err\n\tdefault:", "c.afterCodesEnd()\n\tdefault:").
		caughtBy("internal/server", "TestTx_EndedByItsCodeLate"),
	change("no look for a transaction of the owner's before START TRANSACTION", "internal/server/tx.go",
		"err != nil { // again", "false { // again").
		caughtBy("internal/server", "TestBegin_WhileTheOwnerBegins"),
	change("a session that is lost during Rollback counts as rolled back", "internal/server/tx.go",
		"return c.TxEnded() // lost after alive", "return nil").
		caughtBy("internal/server", "TestTx_LostDuringRollback"),
	change("a Commit of the code counts as rolled back on a session that ends after it", "internal/server/tx.go",
		"%w\", err))\n\t\treturn c.TxEnded()", "%w\", err))\n\t\treturn nil").
		caughtBy("internal/server", "TestTx_LostDuringRollback"),
	change("a probe that a transaction's end overtakes finds the session closed", "internal/server/probe.go",
		"!used && !c.UsedByCode()", "(!used || !c.UsedByCode())").
		caughtBy("internal/server", "TestProbe_WhileTheTransactionEnds"),
	change("the last look at a transaction counts if its connection was closed by its owner", "internal/server/status.go",
		"errors.Is(err, ErrReturned) {", "errors.Is(err, ErrReturned) && false {").
		caughtBy("internal/server", "TestTx_EndedBeforeItsConnIsClosed"),
	change("a session whose code has ended the transaction counts as idle since the last proof", "internal/server/tx.go",
		"\tc.answered.Store(int64(clock.Now()))\n\tc.tx", "\tc.tx").
		caughtBy("internal/server", "TestTx_EndedByItsCodeAfterLongRows"),
	change("the ROLLBACK after a refused COMMIT depends on the code's use of the transaction", "internal/server/tx.go",
		"c.tx.Store(nil)\n\t\tc.must", "c.must").
		caughtBy("internal/server", "TestTx_RefusedWhileInUse"),
	change("a COMMIT that was not sent, because of a cut-off, has an unknown outcome", "internal/server/tx.go",
		"case c.cutOffBefore(err):", "case false:").
		caughtBy("internal/server", "TestTx_CutOffLate"),
	change("a cut-off that is found by ROLLBACK counts as a loss", "internal/server/tx.go",
		"if c.cutOffBefore(err) {", "if false {").
		caughtBy("internal/server", "TestTx_CutOffLate"),
	change("a client's number taken for the server's answer", "internal/server/answers.go",
		"case n >= 2000 && n < 3000:", "case n >= 3000 && n < 2000:").
		caughtBy("internal/server", "TestTx_AnswersToCommit"),
	change("locks taken by hand stay", "internal/server/settings.go",
		"{releaseAllLocks, &left}", "{\"0\", &left}").
		caughtBy("internal/server", "TestCode_LocksByHand"),
	change("a nested lock taken by hand stays", "internal/server/settings.go",
		"err != nil || !held.Bool {", "err != nil || true {").
		caughtBy("internal/server", "TestCode_NestedLocksByHand"),
	change("a changed session goes back to the db", "internal/server/settings.go",
		"c.spoil(strings.Join(changed, \", \"))", "_ = changed").
		caughtBy("internal/server", "TestCode_Settings"),
	change("a changed connection goes back to its owner", "internal/server/settings.go",
		"\t\tc.putBack(&now)\n", "").
		caughtBy("internal/server", "TestCode_Settings"),
	change("numbers after the code in any character set", "internal/server/spell.go",
		"if !c.asBytes && !c.hasCode {", "if !c.asBytes {").
		caughtBy("internal/server", "TestCode_NumbersInUTF16"),
	change("settings read after the code", "internal/server/settings.go",
		"c.settings != nil || c.hasCode //", "c.settings != nil //").
		caughtBy("internal/server", "TestCode_SettingsAreNotReadAfterCode"),
	change("a limit below the lease forgotten", "internal/server/settings.go",
		"\tc.leaseRead(set[atWaitTimeout])\n", "").
		caughtBy("internal/server", "TestLease_UnderATransaction"),
	change("settings not read after an interruption", "internal/server/settings.go",
		"); declined(err) {", "); IsAnswer(err) {").
		caughtBy("internal/server", "TestCode_SettingsAreInterrupted"),
	change("an XA transaction counts as the code's own", "internal/server/tx.go",
		"\t\tif errorNumber(err) == erXA {\n\t\t\treturn errTxEnded //", "\t\tif false {\n\t\t\treturn errTxEnded //").
		caughtBy("internal/server", "TestTx_EndedByXA"),
	change("COMMIT outlasts the lease", "internal/server/tx.go",
		"return min(txTime, c.IdleLimit()/2)", "return txTime").
		caughtBy("internal/server", "TestTx_SilenceUnderItsEnd"),
	mutant{name: "Check gives a lock away", edits: []edit{
		{"internal/server/dialect.go", "if c.locks == 0 { // RELEASE", "if true { // RELEASE"},
		{"internal/server/check.go", "c.greeting == nil && c.locks == 0:", "c.greeting == nil:"},
	}}.caughtBy("internal/server", "TestCheck_UnderALock"),
	change("a session that is given up dies later", "internal/pool/end.go",
		"\tp.mu.Lock()\n\tdefer p.mu.Unlock()\n\tif holds, first := p.closeLocked(s, cause); first {\n\t\tp.work.Go(func() {\n\t\t\ts.CloseSocket()\n\t\t\tp.finishDiscard(s, holds, nil)\n\t\t})\n\t}\n",
		"\tp.work.Go(func() {\n\t\ts.CloseSocket()\n\t\tp.discard(s, cause, nil)\n\t})\n").
		caughtBy("internal/pool", "TestPool_GiveUpMakesItDead"),
	change("a proof too long for a packet is a loss", "internal/pool/watch.go",
		"server.IsTooLong(err) && len(names) > 1", "server.IsTooLong(err) && len(names) < 1").
		caughtBy("internal/pool", "TestWatch_ProofsThatFitThePacket"),
}
