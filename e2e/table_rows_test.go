package e2e

import "slices"

// A row is the result of some faults at a step. It is one test for each fault,
// kind of server, New and Open.
type row struct {
	step   *step
	faults []fault
	open   *outcome // with Open
	new    *outcome // with New
}

// of joins lists of faults.
func of(lists ...[]fault) []fault { return slices.Concat(lists...) }

// these returns a list of its arguments.
func these(faults ...fault) []fault { return faults }

// faultTable is the table from which docs/FAULTS.md is made.
//
// If Open and New differ, it is for one reason: as long as nothing is held,
// Open can try once more on another connection. New has only one connection.
var faultTable = []row{
	{connecting, of(these(notSent, invalidConn, everyTime), errorsOf(1040, 1045, 1129, 1226)), unavailable, notHere},
	{connecting, these(badConn), unharmed, notHere}, // database/sql tries again
	{connecting, these(unheard), expired, notHere},

	{greeting, of(deadConnection, these(everyTime, text, noRow)), gone, gone},
	{greeting, unknownError, gone, unharmed},                                     // New tries again on the same connection
	{greeting, errorsOf(1064, 1142, 1193, 1205, 1969, 3024), unharmed, unharmed}, // sent again without the cluster question
	{greeting, alwaysErrorsOf(1040, 1142, 1205), gone, unavailable},
	{greeting, alwaysErrorsOf(1105, 1235, 1305, 1836), unsupported, unsupported}, // no lock functions
	{greeting, errorsOf(1317), cutOff, interrupted},
	{greeting, these(null), refused, unsupported}, // it is unknown whether the server is writable
	{greeting, these(silence), expiredDiscarded, expiredSlowly},

	{greetingPooled, of(deadConnection, unknownError, these(text, noRow)), again, notHere},
	{greetingPooled, these(silence), expiredDiscarded, notHere},

	{cluster, of(deadConnection, these(noRow)), gone, gone},
	{cluster, unknownError, gone, unavailable},
	{cluster, of(errorsOf(1142, 1193), these(null)), unharmed, unharmed}, // no such variable, no such node
	{cluster, errorsOf(1969, 3024), gone, unavailable},                   // the question is cut off
	{cluster, errorsOf(1317), cutOff, interrupted},
	{cluster, these(silence), expiredDiscarded, expiredSlowly},

	{clusterSize, deadConnection, gone, gone},
	{clusterSize, unknownError, gone, unavailable},
	{clusterSize, these(one, zero, noRow), unharmed, unharmed},
	{clusterSize, these(nonsense), refused, unsupported}, // two nodes
	{clusterSize, errorsOf(1142, 1205), gone, unavailable},
	{clusterSize, errorsOf(1317), cutOff, interrupted},

	{primaries, of(deadConnection, these(text, noRow)), gone, gone},
	{primaries, unknownError, gone, unsupported},
	{primaries, these(one, zero), unharmed, unharmed},
	{primaries, these(nonsense), refused, unsupported}, // two primaries
	{primaries, errorsOf(1142), refused, unsupported},

	{checkedAgain, of(deadConnection, these(noRow)), again, gone},
	{checkedAgain, unknownError, again, unharmed},
	{checkedAgain, errorsOf(1142, 1205), unharmed, unharmed},
	{checkedAgain, alwaysErrorsOf(1142, 1205), gone, unavailable},
	{checkedAgain, errorsOf(1317), cutOff, interrupted},
	{checkedAgain, these(one, null), again, unsupported}, // read-only, or unknown whether the server is writable

	{lease, deadConnection, gone, gone},
	{lease, unknownError, gone, unavailable},
	{lease, errorsOf(1142, 1193, 1227, 1231), gone, unavailable},
	{lease, errorsOf(1317), cutOff, interrupted},
	{lease, these(silence), expiredDiscarded, expiredSlowly},

	{getText, of(deadConnection, these(idleClosed, nonsense, text, noRow)), again, gone},
	{getText, unknownError, again, unavailable},
	{getText, these(everyTime), goneTwice, gone},
	{getText, of(errorsOf(1040, 1142, 1205, 1226, 1461), lateErrorsOf(1205)), unavailable, unavailable},
	{getText, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), deadlocked, deadlocked},
	{getText, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, interrupted},
	{getText, of(errorsOf(1969, 3024), lateErrorsOf(1969, 3024), these(zeroUnsent)), unharmed, unharmed},
	{getText, errorsOf(1059, 3057, 4163), invalid, invalid},
	{getText, of(errorsOf(1105, 1235, 1305, 1836), alwaysErrorsOf(1105, 1235, 1305, 1836)), unsupported, unsupported},
	{getText, of(alwaysErrorsOf(1142, 1205)), unavailable, unavailable},
	{getText, these(silence), expiredSlowly, expiredSlowly},

	{getOnce, of(deadConnection, these(text, noRow)), again, gone},
	{getOnce, unknownError, again, unavailable},
	{getOnce, these(zeroUnsent), timedOut, timedOut},
	{getOnce, of(errorsOf(1969, 3024), lateErrorsOf(1969, 3024)), unharmed, unharmed}, // no wait has ended
	{getOnce, of(errorsOf(1317), these(null)), interrupted, interrupted},

	{getSpelt, of(deadConnection, unknownError, these(idleClosed, nonsense, text, noRow)), again, notHere},
	{getSpelt, errorsOf(1142, 1205), unavailable, notHere},
	{getSpelt, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, notHere},
	{getSpelt, of(errorsOf(1969, 3024), these(zeroUnsent)), unharmed, notHere},

	{getPrepare, deadConnection, again, gone},
	{getPrepare, unknownError, again, unharmed},
	{getPrepare, these(everyTime), again, gone},                              // the fresh session sends text
	{getPrepare, errorsOf(1142, 1205, 1295, 1317, 1461), unharmed, unharmed}, // sent as text
	{getPrepare, these(silence), expiredSlowly, expiredSlowly},

	{getExecute, of(deadConnection, these(idleClosed, nonsense, text, noRow)), again, gone},
	{getExecute, unknownError, again, unavailable},
	{getExecute, errorsOf(1243, 1615), unharmed, unharmed}, // sent as text
	{getExecute, of(errorsOf(1142, 1205), lateErrorsOf(1205)), unavailable, unavailable},
	{getExecute, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), deadlocked, deadlocked},
	{getExecute, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, interrupted},
	{getExecute, of(errorsOf(1969, 3024), lateErrorsOf(1969, 3024), these(zeroUnsent)), unharmed, unharmed},
	{getExecute, these(silence), expiredSlowly, expiredSlowly},

	{releaseInCase, of(deadConnection, these(idleClosed, text, noRow)), again, gone},
	{releaseInCase, of(errorsOf(1105, 1142, 1205, 1317)), again, notHere}, // New: see the next rows
	{releaseInCase, these(null, zero, one, nonsense), interrupted, interrupted},
	{releaseForNothing, of(unknownError, errorsOf(1105, 1142, 1205, 1317)), again, interrupted}, // does not decide about other locks
	{releaseForNothing, alwaysErrorsOf(1105, 1142, 1205), notHere, interrupted},

	{timeLimit, of(deadConnection, these(text, noRow)), again, gone},
	{timeLimit, unknownError, again, unavailable},
	{timeLimit, of(errorsOf(1142, 1205), alwaysErrorsOf(1142, 1205)), unavailable, unavailable},
	{timeLimit, errorsOf(1317), interrupted, interrupted},

	{anyPrepare, alwaysErrorsOf(1295, 1317, 1461), unharmed, unharmed},
	{anyPreparePlain, alwaysErrorsOf(1295, 1317, 1461), unharmed, unharmed},
	{anyExecute, of(alwaysErrorsOf(1243, 1615), someErrorsOf(1243, 1615)), unharmed, unharmed},

	{waiting, of(deadConnection, these(killedMeanwhile, idleClosed, nonsense, text, noRow)), again, gone},
	{waiting, unknownError, again, unavailable},
	{waiting, these(everyTime), notHere, gone}, // Open: a wait that has begun continues until its timeout
	{waiting, of(errorsOf(1142, 1205), lateErrorsOf(1205), alwaysErrorsOf(1142, 1205)), unavailable, unavailable},
	{waiting, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), deadlocked, deadlocked},
	{waiting, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, interrupted},
	{waiting, these(queryKilled), interrupted, notHere}, // the waits of New are too short for a KILL QUERY
	{waiting, of(errorsOf(1969, 3024), lateErrorsOf(1969, 3024), these(zeroUnsent)), unharmed, unharmed},
	{waiting, these(unheard), expiredDiscarded, expiredSlowly},

	{afterWait, of(deadConnection, these(noRow)), again, gone}, // nothing is held
	{afterWait, of(unknownError, errorsOf(1142, 1205, 1317)), unharmed, unharmed},
	{afterWait, these(one, null), again, unsupported}, // read-only, or unknown whether the server is writable

	{keepAlive, of(deadConnection, these(idleClosed, everyTime, silence, null, zero, nonsense, text, noRow)), lost, lost},
	{keepAlive, of(unknownError, errorsOf(1142, 1205, 1317, 1969, 3024), someErrorsOf(1205, 1317, 3024)), unharmed, unharmed}, // sent again
	{keepAlive, alwaysErrorsOf(1142, 1205, 1317), lost, lost},

	{releaseText, of(deadConnection, unknownError, these(idleClosed, silence, unheard, null, zero, nonsense, text, noRow)), doubt, doubt},
	{releaseText, of(errorsOf(1142, 1205, 1305, 1317, 1969, 3024), lateErrorsOf(1205, 1317)), doubt, doubt},

	{releaseSpelt, of(deadConnection, unknownError, these(silence, null, zero, nonsense, noRow), errorsOf(1317)), doubt, notHere},

	{releasePrepare, of(deadConnection, these(silence)), doubt, doubt},
	{releasePrepare, of(unknownError, errorsOf(1142, 1205, 1295, 1317, 1461)), unharmed, unharmed}, // sent as text

	{releaseExecute, errorsOf(1243, 1615), unharmed, unharmed}, // sent as text
	{releaseExecute, of(deadConnection, unknownError, these(idleClosed, silence, unheard, null, zero, nonsense, text, noRow)), doubt, doubt},
	{releaseExecute, of(errorsOf(1142, 1205, 1317, 1969, 3024), lateErrorsOf(1205, 1317)), doubt, doubt},

	{slotGate, of(deadConnection, these(nonsense, text, noRow)), again, gone},
	{slotGate, unknownError, again, unavailable},
	{slotGate, errorsOf(1142, 1205), unavailable, unavailable},
	{slotGate, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), deadlocked, deadlocked},
	{slotGate, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, interrupted},
	{slotGate, of(errorsOf(1969, 3024), these(zeroUnsent)), unharmed, unharmed},

	{slotLook, of(deadConnection, these(text, noRow)), again, gone},
	{slotLook, these(everyTime), goneTwice, gone},
	{slotLook, of(unknownError, errorsOf(1142, 1205, 1969, 3024), alwaysErrorsOf(1142)), unavailable, unavailable}, // the session holds the gate
	{slotLook, errorsOf(1305), unsupported, unsupported},
	{slotLook, errorsOf(1317), interrupted, interrupted},
	{slotLook, these(silence), expiredDiscarded, expiredDiscarded},

	{slotGet, of(deadConnection, these(nonsense, text, noRow)), again, gone},
	{slotGet, of(unknownError, errorsOf(1142, 1205)), unavailable, unavailable}, // the session holds the gate
	{slotGet, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), deadlocked, deadlocked},
	{slotGet, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, interrupted},
	{slotGet, of(errorsOf(1969, 3024), these(zeroUnsent)), unharmed, unharmed}, // the other slot
	{slotGet, these(silence), expiredDiscarded, expiredDiscarded},

	{slotWait, of(deadConnection, these(nonsense, text, noRow)), again, notHere},      // New only polls
	{slotWait, of(unknownError, errorsOf(1142, 1205)), unavailable, notHere},          // New only polls
	{slotWait, of(errorsOf(1213, 3058), lateErrorsOf(1213, 3058)), unharmed, notHere}, // another slot may be free
	{slotWait, of(errorsOf(1317), lateErrorsOf(1317), these(null)), interrupted, notHere},
	{slotWait, of(errorsOf(1969, 3024), these(zeroUnsent)), unharmed, notHere},
	{slotWait, these(unheard), expiredDiscarded, notHere},

	{slotOpen, of(deadConnection, unknownError, these(null, zero, nonsense, text, noRow)), again, gone},
	{slotOpen, of(errorsOf(1142, 1205, 1305, 1317, 1969, 3024), lateErrorsOf(1205, 1317)), again, gone},
	{slotOpen, these(silence, unheard), expiredDiscarded, expiredDiscarded},

	{slotRelease, of(deadConnection, unknownError, these(silence, unheard, null, zero, nonsense, text, noRow)), doubt, doubt},
	{slotRelease, of(errorsOf(1142, 1205, 1305, 1317, 1969, 3024), lateErrorsOf(1205, 1317)), doubt, doubt},

	{leaseBack, of(deadConnection, unknownError, errorsOf(1142, 1317)), discarded, discarded},
	{leaseBack, these(silence), discardedSlowly, discardedSlowly},

	{statementClose, these(notSent, answerLost, badConn, badConnLate, invalidConn, brokeInReply), unharmed, unharmed},
}
