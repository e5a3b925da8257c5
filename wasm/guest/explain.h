// Explanations: which events of a history speak for an item. Included by kernel.c,
// whose machine runs the blocks; what is computed is defined in internal/q8/explain.go.
//
// The whole history is encoded first, and its keys and values stay. Then the last
// event goes through the blocks again, in four rows at a time, each of which looks
// away from another event (masks): that gives the estimates. Then the histories
// without one of the chosen events follow, the latest first, so that the rows
// before it are those of the whole history and serve as cached ones.
#pragma once

enum explain_phase {
  EX_NONE,    // nothing is explained yet
  EX_WHOLE,   // the scores for the whole history
  EX_PARTS,   // what the attributes of an item bring to its score
  EX_EVENTS,  // on to the events
  EX_MASKED,  // the estimate of an event
  EX_CHOOSE,  // which events are tried
  EX_WITHOUT  // what the scores lose without one
};

struct explain_state {
  u32 phase;
  u32 items;    // hits that are explained
  u32 row;      // of the current four
  u32 first;    // the first candidate
  u32 without;  // the event that is left out
};
#define ES AT(struct explain_state, EXPLAIN_STATE)
_Static_assert(sizeof(struct explain_state) <= 4 * STATE_WORDS, "explain state");

static inline struct hit *reasons(u32 j) { return AN->hit + ES->items + j * RQ->reasons; }

static inline struct hit score_item(u32 item) {
  i32 acc = dot_row(AT(i16, USER), item_row(item), H(ITEM_K));
  return (struct hit){item, acc, (f32)acc * item_scale(item)};
}

// Begins to mask the next four events; the phase after the last one.
static void next_masks(void) {
  u32 t = RQ->history - 1;
  ST->layer = 0;
  ST->first_out = ST->pos;
  ST->end = t;
  ST->masks = ST->pos < t;
  ES->row = 0;
  if (!ST->masks) {
    ES->phase = EX_CHOOSE;
    ST->phase = EXPLAIN;
    return;
  }
  for (u32 m = 0; m < events_here(); m++) embed(stream(m), events() + t, events()[t].gap);
  ES->phase = EX_MASKED;
  ST->phase = NORM_ATTN;
}

// After a block of the masked rows: the next one, or what came out.
static void next_masked_block(void) { ST->phase = ++ST->layer == H(LAYERS) ? EXPLAIN : NORM_ATTN; }

// Begins to explain the hits of the answer, whose user vector stands in USER.
static void explain_begin(void) {
  ES->items = AN->hits;
  ES->phase = EX_WHOLE;
  ST->phase = EXPLAIN;
}

static u32 whole_scores(void) {
  u32 n = ES->items, parts = RQ->flags & FLAG_ATTRIBUTES;
  AN->hits = n * (1 + RQ->reasons * (parts ? 2 : 1));
  for (u32 i = n; i < AN->hits; i++) AN->hit[i] = (struct hit){NO_REASON, 0, 0};
  for (u32 j = 0; j < n; j++) AT(f32, WHOLE)[j] = score_item(AN->hit[j].item).score;
  ES->row = 0;
  ES->phase = parts ? EX_PARTS : EX_EVENTS;
  return n * H(ITEM_K) + 1;
}

// Puts a hit with a score above zero among the best, of which there are RQ->reasons.
// One with an equal score goes before it, or behind.
static void keep(struct hit *g, struct hit x, u32 before) {
  u32 at = RQ->reasons;
  if (!(x.score > 0)) return;
  while (at && (g[at - 1].item == NO_REASON || g[at - 1].score < x.score || (before && g[at - 1].score == x.score))) at--;
  if (at == RQ->reasons) return;
  for (u32 i = RQ->reasons - 1; i > at; i--) g[i] = g[i - 1];
  g[at] = x;
}

// The attributes of the next item. Its user vector stands in USER.
static u32 parts(void) {
  if (ES->row == ES->items) {
    ES->phase = EX_EVENTS;
    return 1;
  }
  u32 j = ES->row++, item = AN->hit[j].item, k = H(ITEM_K), from = 0, to = 0;
  const u32 *list = IMAGE(u32, ATTRIBUTE_LIST);
  f32 factor = 0, lanes[4] = {0, 0, 0, 0};
  if (item < H(ITEMS)) {  // of an inserted item nothing is known but its text
    from = IMAGE(u32, ATTRIBUTE_FIRST)[item], to = IMAGE(u32, ATTRIBUTE_FIRST)[item + 1];
    factor = IMAGE(f32, ATTRIBUTE_FACTOR)[item];
  }
  struct hit *g = reasons(ES->items + j);
  for (u32 i = from; i < to; i++) {
    u32 a = list[i] & 0xffffff, count = list[i] >> 24;
    const i8 *rows = IMAGE(i8, ATTRIBUTE_ROWS) + (a / 4) * row_block_bytes(k);
    i32 acc = dot_row(AT(i16, USER), row_start(rows, a & 3), k);
    f32 part = (f32)acc * ((const f32 *)(rows + 4 * k))[a & 3] * ((f32)count * factor);
    lanes[(i - from) & 3] += part;
    keep(g, (struct hit){a, acc, part}, 0);
  }
  keep(g, (struct hit){OWN_PART, 0, AT(f32, WHOLE)[j] - ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))}, 0);
  return (to - from) * k + 1;
}

static u32 events_begin(void) {
  u32 t = RQ->history;
  if (!t) return 0;
  ES->first = t > H(WINDOW) ? t - H(WINDOW) : 0;
  ST->pos = ES->first;
  next_masks();
  return 1;
}

static u32 estimate(void) {
  u32 m = ES->row++;
  ST->last = (u32)stream(m);
  user();
  f32 lanes[4] = {0, 0, 0, 0};
  for (u32 j = 0; j < ES->items; j++) {
    f32 loss = AT(f32, WHOLE)[j] - score_item(AN->hit[j].item).score;
    if (loss > 0) lanes[j & 3] += loss;
  }
  AT(f32, ESTIMATES)[ST->pos + m - ES->first] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  if (ES->row == events_here()) {
    ST->pos += ES->row;
    next_masks();
  }
  return ES->items * H(ITEM_K) + 8 * H(DIM);
}

// The next history to encode, without the latest event that is left to try.
// Returns 0 where there is none.
static u32 next_without(void) {
  u32 t = RQ->history, i = ES->without;
  do {
    if (i == ES->first) return 0;
    i--;
  } while (!AT(u32, TRIED)[i - ES->first]);
  ES->without = i;
  ES->phase = EX_WITHOUT;
  ST->cached = i;
  ST->end = t - 1;
  ST->events = min_u32(t - 1, H(WINDOW));
  ST->fresh = t - 1 - i;
  ST->extra = 0;
  ST->row = 0;
  // Without the last event nothing runs: the one before it has an output already.
  ST->last = (u32)(AT(f32, X) + ((ST->fresh ? ST->fresh : i) - 1) * H(DIM));
  ST->phase = ST->fresh ? EMBED : USER;
  return 1;
}

// Chooses by falling estimates, the last event first, while there is work left.
static u32 choose_events(void) {
  u32 t = RQ->history, n = t - ES->first, left = t + t / 2 + EXPLAIN_SPARE_ROWS;
  f32 *e = AT(f32, ESTIMATES);
  u32 *tried = AT(u32, TRIED);
  for (u32 i = 0; i < n; i++) tried[i] = 0;
  e[n - 1] = __builtin_inff();
  for (u32 c = 0; c < n; c++) {
    u32 best = n;
    for (u32 i = n; i--;)
      if (e[i] >= 0 && (best == n || e[i] > e[best])) best = i;
    e[best] = -1;
    u32 cost = n - 1 - best + EXPLAIN_EVENT_ROWS;
    if (cost > left) continue;
    left -= cost;
    tried[best] = 1;
  }
  ES->without = t;
  return next_without() ? 4 * n * n : 0;
}

static u32 losses(void) {
  for (u32 j = 0; j < ES->items; j++) {
    struct hit h = score_item(AN->hit[j].item);
    // Events come by falling number, and the earlier of two equals stands first.
    keep(reasons(j), (struct hit){ES->without, h.acc, AT(f32, WHOLE)[j] - h.score}, 1);
  }
  return next_without() ? ES->items * H(ITEM_K) + 1 : 0;
}

// Goes on whenever a user vector, or four masked rows, are there. Returns the cost,
// 0 when the answer is complete.
static u32 explain_step(void) {
  switch (ES->phase) {
    case EX_WHOLE: return whole_scores();
    case EX_PARTS: return parts();
    case EX_EVENTS: return events_begin();
    case EX_MASKED: return estimate();
    case EX_CHOOSE: return choose_events();
    default: return losses();
  }
}
