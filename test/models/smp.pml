/* vCPUs on threads of their own: two senders, a receiver that scans, masks, unmasks, blocks, polls and forwards a call, and
 * the hypervisor's thread that closes, binds and switches the leaf. One atomic access a step.
 *
 *     assembly/host/lock.ts       enter, leave          src/machine/delivery_lock.ts   exclude, admit
 *     assembly/host/levels.ts     setPending            src/vcpu/cpu.ts, poll.ts       block, poll: marks before the look
 *     src/vcpu/thread.ts          forward: mail
 *
 * Ports 0 and 1 of the receiver lie in different leaf words; sender s sends to port s. Leaf `d`: 0 = shared_info,
 * 1 = registered. Level 1 is one word with a bit for each leaf word. A wait is abstract here; lock.pml and sleep.pml have
 * the futexes. The code changes with the model, and the model with the code: test/real/threads/models.test.ts runs both the
 * design and the mutants, each of which must fail. */
#ifndef SENDS
#define SENDS 2
#endif
#define FREE 0
#define UNBOUND 1
#define BOUND 2

bool W;                      /* delivery lock: a writer is active or waits */
bool inside[3];              /* per thread: 0, 1 senders, 2 the receiver */
byte st[2];                  /* senders' ends */
byte far[2];                 /* receiver's ends: FREE or BOUND */
bool depth;                  /* leaf in force: private state */
bool pend[4], mask[4];       /* guest words: leaf d, port p at 2*d+p */
bool sel[2], flag;           /* guest words: level 1, upcall flag */
bool blocked, polling;       /* vCPU record: futex word; polls port 1 */
byte mail;                   /* 0 idle, 1 asked, 2 answered */
bool act = 1;                /* the vCPU's selectors are active */
bool due[2];                 /* the book: sent on a bound channel, not handled */
byte ended;

#define LEAF(d,p) (2*(d)+(p))

inline enter(t) {
#ifdef NO_LOCK
  skip
#else
  do
#ifdef LOOK_BEFORE_MARK      /* or: a plain store that the store buffer delays */
  :: !W -> inside[t] = 1; break
#else
  :: inside[t] = 1;
     if
     :: !W -> break
     :: W -> inside[t] = 0; !W /* Atomics.wait */
     fi
#endif
  od
#endif
}
inline leave(t) { inside[t] = 0 }

inline kick() { atomic { if :: blocked -> blocked = 0 :: else fi } }   /* CAS, then notify */
inline markPending() {
#ifdef KICK_FIRST
  kick(); flag = 1
#else
  atomic { was = flag; flag = 1 };
  if :: !was -> kick() :: else fi
#endif
}
inline climb(p) {
  if
  :: act -> atomic { was = sel[p]; sel[p] = 1 };
     if :: !was -> markPending() :: else fi
  :: else
  fi
}
/* t = 3: the hypervisor's thread itself, which needs no lock: it is the only writer */
inline setPending(p) {
  d = depth;
  atomic { was = pend[LEAF(d,p)]; pend[LEAF(d,p)] = 1; assert(far[p] == BOUND); /* no bit in a closed port */
           assert(d == depth);                                                  /* nor in a leaf that was left */
           due[p] = 1 };
  if
  :: was
  :: else ->
     if :: !mask[LEAF(d,p)] -> climb(p) :: else fi;
     if :: polling && p == 1 -> atomic { polling = 0; if :: blocked -> blocked = 0 :: else fi } :: else fi
  fi;
  atomic { was = 0; d = 0 }
}

proctype Sender(byte s) {
  bool was, d; byte n, seen;
  do
  :: n < SENDS ->
     n++;
     enter(s);
     seen = st[s];            /* plain reads under the lock */
     if
     :: seen == BOUND -> setPending(s)
     :: else                  /* UNBOUND: dropped */
     fi;
     atomic { leave(s); seen = 0 }
  :: else -> break
  od;
  ended++
}

inline exclude() { W = 1; !inside[0]; !inside[1]; !inside[2] }
inline admit() { W = 0 }

proctype Hypervisor() {
  bool was, d; byte closes;
end_serve:
  do
  :: closes == 0 ->           /* closes the receiver's end of port 0, then binds it again */
     exclude();
     st[0] = UNBOUND; d = depth; pend[LEAF(d,0)] = 0; due[0] = 0; far[0] = FREE;
     admit();
     exclude();
     far[0] = BOUND; st[0] = BOUND;
     admit();
     setPending(0);           /* EC-inter-8 */
     closes = 1; was = 0
  :: mail == 1 ->             /* register_nlevel */
#ifdef SWITCH_WITHOUT_EXCLUSION
#else
     exclude();
#endif
     act = 0; sel[0] = 0; sel[1] = 0;
     atomic { was = pend[0]; pend[0] = 0 }; if :: was -> pend[2] = 1 :: else fi;
     atomic { was = pend[1]; pend[1] = 0 }; if :: was -> pend[3] = 1 :: else fi;
     mask[2] = mask[0]; mask[3] = mask[1];
     depth = 1;
#ifndef SWITCH_WITHOUT_EXCLUSION
     admit();
#endif
     /* activate: publish, fill, flag, notify whatever the flag was */
     act = 1; sel[0] = 1; sel[1] = 1; flag = 1; kick();
     mail = 2
  od
}

proctype Receiver() {
  bool was, d, g; byte p, n; bool asked, got; bool w[2]; byte masked = 9;
  /* g: the leaf that the guest's own code uses */
again:
  got = 0;
#ifdef FLAG_AFTER_SEL
  atomic { w[0] = sel[0]; w[1] = sel[1]; sel[0] = 0; sel[1] = 0 }; flag = 0;
#else
  flag = 0;
  atomic { w[0] = sel[0]; w[1] = sel[1]; sel[0] = 0; sel[1] = 0 };
#endif
  p = 0;
  do
  :: p < 2 ->
     if
     :: w[p] && pend[LEAF(g,p)] && !mask[LEAF(g,p)] ->
        atomic { pend[LEAF(g,p)] = 0; due[p] = 0 }; got = 1;
        if
        :: masked == 9 -> masked = p; mask[LEAF(g,p)] = 1     /* the handler masks its port, once */
        :: true
        fi
     :: else
     fi;
     p++
  :: else -> break
  od;
  atomic { w[0] = 0; w[1] = 0; p = 0; was = 0 };
  if
  :: masked < 2 ->            /* EVTCHNOP_unmask on the own thread */
     enter(2);
     d = depth;
     mask[LEAF(d,masked)] = 0;
     if :: pend[LEAF(d,masked)] -> climb(masked) :: else fi;
     atomic { leave(2); masked = 8; was = 0; d = 0 }
  :: else
  fi;
  if
  :: !asked -> asked = 1;     /* a rare operation: forwarded */
#ifdef FORWARD_INSIDE
     enter(2);
#endif
     mail = 1; mail == 2; mail = 0;
#ifdef FORWARD_INSIDE
     leave(2);
#endif
     g = 1
  :: true
  fi;
  if :: flag -> goto again :: else fi;
  if
  :: true ->                  /* SCHEDOP_block */
#ifdef LOOK_BEFORE_BLOCK
     if :: flag -> goto again :: else -> blocked = 1 fi;
#else
     blocked = 1;
     if :: flag -> blocked = 0; goto again :: else fi;
#endif
  :: true ->                  /* SCHEDOP_poll of port 1 */
#ifdef POLL_LOOKS_FIRST
     if :: flag || pend[LEAF(g,1)] -> goto again :: else fi;
     atomic { blocked = 1; polling = 1 };
#else
#ifdef POLL_MARK_FIRST
     polling = 1; blocked = 1;
#else
     blocked = 1; polling = 1;
#endif
     if :: flag || pend[LEAF(g,1)] -> polling = 0; blocked = 0; goto again :: else fi;
#endif
  fi;
end_asleep:
  !blocked; polling = 0; goto again
}

/* When nobody can go on: the receiver sleeps, nothing is due, or it is masked. */
active proctype Monitor() {
  timeout ->
  assert(ended == 2);                                      /* no sender waits for ever */
  assert(mail == 0);                                       /* no call waits for ever */
  assert(!inside[0] && !inside[1] && !inside[2] && !W);
  assert(!due[0] || mask[LEAF(depth,0)]);                  /* nothing is lost */
  assert(!due[1] || mask[LEAF(depth,1)]);
  assert(!(blocked && flag));                              /* nobody sleeps on an upcall */
  assert(!(blocked && polling && pend[LEAF(depth,1)]))     /* nor on the event that it polls for */
}

init {
  atomic {
    st[0] = BOUND; st[1] = BOUND; far[0] = BOUND; far[1] = BOUND;
    run Sender(0); run Sender(1); run Receiver(); run Hypervisor()
  }
}
