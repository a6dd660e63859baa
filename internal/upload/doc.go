// Package upload handles the body of a client's request: it counts, limits and times it, retains it in one buffer for retries and
// fallbacks, and reads it to its end after an early response.
//
// The methods of a [Body] in the order of a request's life:
//
//	Init, ExpectContinue, ForwardTrailers            before anything is read
//	RetainForFallback, RetainForReplay               determine how much is retained
//	Prefetch                                         reads the whole body before the breaker is asked
//	ReadArrived                                      reads what has arrived, for a request on the fast path
//	NewReader                                        the body of the next upstream request, which a transport reads
//	StopRetaining                                    there is a response: the body is not sent again
//	FailRead                                         makes a read that is in progress fail, so that the transport returns
//	NoteTransportGaveUp, NoteStalling                record why an upload ended, for the classification of errors
//	StopForFallback, ReadRest, Complete              stop the transport, and read the rest for the fallback
//	PrepareResponse                                  before a response of the proxy itself
//	DrainAfterResponse                               reads the rest after the response has been sent
//	StopTransportRead, FreeBuffer                    at the end of the request
//
// Four methods judge the client's share in a delay; wait.go defines them: IsSlow, IsStalling, WasStalling and IsIdle.
package upload
