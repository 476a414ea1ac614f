/* A vCPU that sleeps, a sender that wakes it, and the hypervisor that parks it where it is, with the futexes written out.
 *
 *     Vcpu         src/vcpu/cpu.ts: idle, #sleep, #park, safepoint
 *     Sender       assembly/host/threads.ts: finish, after the flag went 0 to 1; poll.ts: wake
 *     Hypervisor   src/host/thread.ts: #control; quiesce waits for PARKED
 *
 * BLOCKED: 0 awake, 1 asleep, 2 asleep and called to look at CONTROL. */
#define RUN 0
#define PARK 1

byte blocked, control, parked;
bool flag, guest;            /* the upcall flag; guest code runs */
byte on;                     /* what the vCPU's thread sleeps on: 0 = awake, 1 = BLOCKED, 2 = CONTROL */
byte sent, seen;

inline notify(what) { atomic { if :: on == what -> on = 0 :: else fi } }
/* Sleeps only if the word still has the value: that test and the sleep are one step. */
inline waitOn(what, word, value) { atomic { if :: word == value -> on = what :: else fi }; on == 0 }

inline park() {
  do
  :: control == RUN -> break
  :: else ->
     parked = 1;
     do
     :: control == PARK -> waitOn(2, control, PARK)
     :: else -> break
     od;
     parked = 0
#ifdef PARK_LOOKS_ONCE
     ; break
#endif
  od
}

active proctype Vcpu() {
  byte state;
end_runs:
  do
  :: if :: control != RUN -> park() :: else fi;   /* safepoint */
     guest = 1;
     if :: flag -> flag = 0; seen = sent :: else fi;
     guest = 0;
#ifdef LOOK_BEFORE_ASLEEP
     if :: flag -> goto again :: else fi;
#endif
     blocked = 1;
     do
     :: if :: control != RUN -> park() :: else fi;
        state = blocked;
#ifndef LOOK_BEFORE_ASLEEP
        if :: flag -> blocked = 0; break :: else fi;
#endif
        if
        :: state == 0 -> break
        :: state == 2 -> atomic { if :: blocked == 2 -> blocked = 1 :: else fi }
        :: else ->
           atomic { if :: blocked == 1 -> on = 1 :: else fi };
end_sleeps:
           on == 0
        fi
     od;
again: skip
  od
}

active [2] proctype Sender() {
  bool was;
  atomic { sent++; was = flag; flag = 1 };
  if :: !was -> atomic { if :: blocked -> blocked = 0; was = 1 :: else was = 0 fi };
        if :: was -> notify(1) :: else fi
     :: else
  fi
}

active proctype Hypervisor() {
  byte n;
  do
  :: n < 2 -> n++;
     control = PARK;
     notify(2);
#ifndef CALL_SILENTLY
     atomic { if :: blocked == 1 -> blocked = 2 :: else fi };
#endif
     notify(1);
     parked == 1;
     assert(!guest);                              /* quiesced: it may be saved */
     assert(!guest);                              /* and still is */
     control = RUN;
     notify(2)
  :: else -> break
  od
}

active proctype Monitor() {
  timeout -> assert(seen == sent)                 /* nobody sleeps on an upcall */
}
