/* The delivery lock by itself, with the futexes written out: a sleeper hears only a notify that comes after it slept. An
 * abstract wait hides lost wake-ups: with one, BACK_OFF_SILENTLY passes.
 *
 *     Reader   enter, leave (assembly/host/lock.ts)        Writer   exclude, admit (src/machine/delivery_lock.ts)
 */
bool W, mark[2], crit[2], changing;
bool asleep[2];              /* reader t sleeps on W == 1 */
byte writerOn;               /* the writer sleeps on mark[writerOn - 1] == 1; 0 = awake */

inline notifyWriter(t) { atomic { if :: writerOn == t + 1 -> writerOn = 0 :: else fi } }

proctype Reader(byte t) {
  byte n;
  do
  :: n < 3 -> n++;
     do
#ifdef LOOK_FIRST
     :: if :: !W -> mark[t] = 1; break :: else fi;
#else
     :: mark[t] = 1;
        if :: !W -> break :: else fi;
#endif
        mark[t] = 0;
#ifndef BACK_OFF_SILENTLY
        notifyWriter(t);
#endif
        atomic { if :: W -> asleep[t] = 1 :: else fi };
        !asleep[t]
     od;
     crit[t] = 1; assert(!changing); crit[t] = 0;
     mark[t] = 0;
#ifndef LEAVE_SILENTLY
     if :: W -> notifyWriter(t) :: else fi
#endif
  :: else -> break
  od
}

proctype Writer() {
  byte n, t;
  do
  :: n < 3 -> n++;
     W = 1;
     t = 0;
     do
     :: t < 2 ->
        if
        :: !mark[t] -> t++
        :: else -> atomic { if :: mark[t] -> writerOn = t + 1 :: else fi }; writerOn == 0
        fi
     :: else -> break
     od;
     changing = 1; assert(!crit[0] && !crit[1]); changing = 0;
     W = 0;
     atomic { asleep[0] = 0; asleep[1] = 0 }
  :: else -> break
  od
}

init { atomic { run Reader(0); run Reader(1); run Writer() } }
