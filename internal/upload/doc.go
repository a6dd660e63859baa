// Package upload handles the body of a client's request: it counts, limits and times it, retains it in one buffer for retries and
// fallbacks, and reads it to its end after an early response.
//
// The methods of a [Body] in the order in which a request uses them:
//
//	Init, ExpectContinue, ForwardTrailers            before anything is read
//	RetainForFallback, RetainForReplay               determine how much is retained
//	Prefetch                                         reads the whole body before the breaker admits the request
//	ReadArrived                                      reads what has arrived, for a request on the fast path
//	NewReader                                        the body of the next upstream request, which a transport reads
//	StopRetaining                                    there is a response: the body is not sent again
//	FailRead                                         makes a read that is in progress fail, so that the transport returns
//	NoteClosedDuringRead, NoteStalling               record why an upload ended, for the classification of errors
//	StopForFallback, ReadRest, Complete              stop the transport, and read the rest for the fallback
//	PrepareResponse                                  before a response of the proxy itself
//	DrainAfterResponse                               reads the rest after the response has been sent
//	StopTransportRead, FreeBuffer                    at the end of the request
//
// These methods stop reads. The deadline is the read deadline of the client's connection; the last column are the flags that the
// method sets.
//
//	method                called                                       deadline                     flags of the Body
//	bodyReader.Close      by a transport; calls Owner.AbortRead if     unchanged                    stopped, unless the body
//	                      a read is in progress                                                     may be sent again
//	NoteClosedDuringRead  by Owner.AbortRead, which then calls         unchanged                    closedDuringRead, wasStalling
//	                      StopForFallback or FailRead                                               if the client is stalling
//	StopForFallback       when an attempt fails and a fallback may     after shortReadTimeout       stopped
//	                      use the body; by ReadRest
//	FailRead              when an attempt fails otherwise              now                          readFailed
//	StopTransportRead     at the end of the request                    now, then after              readFailed, stopped
//	                                                                   shortReadTimeout
//
// Four methods determine whether the client caused a delay; wait.go defines them: IsSlow, IsStalling, WasStalling and IsIdle.
package upload
