// Rankings with rules, with an overlay, or by the similarity of items: what may
// appear is settled first, in bitmaps; then the best of it is chosen. Included by
// kernel.c, whose machine calls rules_step until it returns 0; the arithmetic and
// the order are those of internal/q8/rules.go.
//
// Caps and diversity need the best of what is left more than once. Each pass over
// the table fills a pool and chooses from it; what a cap shuts out is left out of
// the next pass, so that every pass adds an item or is the last one.
#pragma once

enum rule_phase {
  RULES_BEGIN,      // what the request and the host leave out
  RULES_FILTER,     // one rule: a step for each of its labels
  RULES_PINS,
  RULES_CAPS,       // leave out what has a label that is used up
  RULES_SCAN,       // the pool: the best of what is left, some blocks a step
  RULES_EXTRA,      // inserted items
  RULES_SORT,
  RULES_GREEDY,     // choose by score
  RULES_RELEVANCE,  // of the items in the pool
  RULES_NEAREST,    // their similarity to one that is shown
  RULES_CHOOSE,     // the largest marginal relevance
  RULES_DONE,
};

struct rule_state {
  u32 phase;
  u32 at, label, entry;  // progress: word of the rules, label of a set, item of a label
  u32 row;               // progress within the other phases
  u32 capped, diverse;   // whether there are such rules
  u32 depth;             // items that diversity chooses from
  f32 lambda, query_inv;
  u32 pins, chosen, want;
  u32 pool, size;        // hits in POOL, and how many it may hold
  u32 heap;
};
_Static_assert(sizeof(struct rule_state) <= 4 * RULE_STATE_WORDS, "rule state");
#define RS AT(struct rule_state, RULE_STATE)

// A function that many steps call, and once in the kernel all the same: what golden
// requests see of it holds for requests that no golden is of.
#define SHARED __attribute__((noinline))

#define POSTINGS (1 << 16)  // items of a label that a step marks

struct rule {
  u32 op, n, args[];
};

static inline const u32 *rules(void) { return RQ->data + EVENT_WORDS * RQ->history + RQ->list + (RQ->text + 3) / 4 + (RQ->state + 3) / 4; }
static inline const struct rule *rule_at(u32 at) { return (const struct rule *)(rules() + at); }
static inline u32 rule_after(u32 at) { return at + 2 + rule_at(at)->n; }
static inline f32 rule_float(const struct rule *r, u32 i) { return ((const f32 *)r->args)[i]; }

// ---- checks

static u32 rises(const u32 *set, u32 n, u32 limit) {
  for (u32 i = 0; i < n; i++)
    if (set[i] >= limit || (i && set[i] <= set[i - 1])) return 0;
  return 1;
}

static u32 valid_boost(const struct rule *r, u32 limit) {
  if (r->n < 2) return 0;
  f32 factor = rule_float(r, 0), addend = rule_float(r, 1);
  return factor >= 1.0f / BOOST_MAX && factor <= BOOST_MAX && addend >= -BOOST_MAX && addend <= BOOST_MAX && rises(r->args + 2, r->n - 2, limit);
}

static u32 valid_rule(const struct rule *r) {
  switch (r->op) {
    case RULE_ONLY: return rises(r->args, r->n, items_in_all());
    case RULE_ANY_OF:
    case RULE_NONE_OF: return rises(r->args, r->n, H(MAX_LABELS));
    case RULE_BOOST_ITEMS: return valid_boost(r, items_in_all());
    case RULE_BOOST_LABELS: return valid_boost(r, H(MAX_LABELS));
    case RULE_CAP: return r->n == 3 && r->args[1] < r->args[2] && r->args[2] <= H(MAX_LABELS);
    case RULE_PIN: return r->n == 2 && r->args[0] < RQ->k && r->args[1] < items_in_all();
    case RULE_DIVERSITY: return r->n == 2 && rule_float(r, 0) >= 0 && rule_float(r, 0) <= 1 && r->args[1] >= RQ->k && r->args[1] <= H(MAX_K);
  }
  return 0;
}

// whether a rule before it makes this one senseless
static u32 repeats(const struct rule *r, u32 at) {
  if (r->op != RULE_PIN && r->op != RULE_DIVERSITY) return 0;
  for (u32 i = 0; i < at; i = rule_after(i)) {
    const struct rule *o = rule_at(i);
    if (o->op == r->op && (r->op == RULE_DIVERSITY || o->args[0] == r->args[0] || o->args[1] == r->args[1])) return 1;
  }
  return 0;
}

static u32 check_rules(void) {
  u32 count = 0;
  for (u32 at = 0; at < RQ->rules; at = rule_after(at)) {
    const struct rule *r = rule_at(at);
    if (RQ->rules - at < 2 || r->n > RQ->rules - at - 2) return 0;
    if (++count > MAX_RULES || !valid_rule(r) || repeats(r, at)) return 0;
  }
  return 1;
}

static inline u32 ranks_by_rules(void) { return RQ->rules || RQ->kind == KIND_SIMILAR || OV->inserted || OV->unavailable; }

// ---- sets

static inline u32 bit(const u32 *bits, u32 i) { return bits[i / 32] >> (i & 31) & 1; }
static inline void set_bit(u32 *bits, u32 i) { bits[i / 32] |= 1u << (i & 31); }
static inline u32 bit_words(void) { return round_up(H(ITEMS) + H(MAX_INSERTED), 32) / 32; }

static void set_all(u32 *bits, const u32 *set, u32 n) {
  for (u32 i = 0; i < n; i++) set_bit(bits, set[i]);
}

// whether a rising set has v
SHARED static u32 has(const u32 *set, u32 n, u32 v) {
  u32 from = 0, to = n;  // the first that is not below v lies in [from, to]
  while (from < to) {
    u32 middle = (from + to) / 2;
    if (set[middle] < v)
      from = middle + 1;
    else
      to = middle;
  }
  return from < n && set[from] == v;
}

struct set {
  const u32 *of;
  u32 n;
};

SHARED static struct set labels_of(u32 item) {
  if (item >= H(ITEMS)) {
    const u32 *l = AT(u32, EXTRA_LABELS) + (item - H(ITEMS)) * MAX_ITEM_LABELS;
    u32 n = 0;
    while (n < MAX_ITEM_LABELS && l[n] != ~0u) n++;
    return (struct set){l, n};
  }
  if (!H(LABELS)) return (struct set){0, 0};
  const u32 *first = IMAGE(u32, LABEL_FIRST) + item;
  return (struct set){IMAGE(u32, LABEL_LIST) + first[0], first[1] - first[0]};
}

SHARED static u32 has_label(u32 item, const u32 *set, u32 n) {
  struct set l = labels_of(item);
  for (u32 i = 0; n && i < l.n; i++)
    if (has(set, n, l.of[i])) return 1;
  return 0;
}

// Sets the bits of items with a label, POSTINGS at a time; RS->entry is 0 again when
// all are set. Returns the cost.
SHARED static u32 mark_label(u32 *bits, u32 label) {
  u32 n = 0, from = RS->entry;
  if (label < H(LABELS)) {
    const u32 *first = IMAGE(u32, POSTING_FIRST) + label, *list = IMAGE(u32, POSTING_LIST) + first[0];
    n = min_u32(first[1] - first[0] - from, POSTINGS);
    set_all(bits, list + from, n);
    RS->entry = from + n;
    if (RS->entry < first[1] - first[0]) return 8 * n;
    RS->entry = 0;
  }
  for (u32 i = H(ITEMS); i < items_in_all(); i++)
    if (has_label(i, &label, 1)) set_bit(bits, i);
  return 8 * n + 16 * OV->inserted + 16;
}

static void only(const u32 *set) {
  u32 *out = AT(u32, LEFT_OUT);
  for (u32 w = 0; w < bit_words(); w++) out[w] |= ~set[w];
}

static u32 rules_begin(void) {
  u32 *out = AT(u32, LEFT_OUT), words = bit_words(), n = items_in_all();
  const u32 *gone = OV->unavailable ? AT(u32, UNAVAILABLE) : 0;
  for (u32 w = 0; w < words; w++) {
    out[w] = gone ? gone[w] : 0;
    AT(u32, BOOSTED)[w] = 0;
  }
  for (u32 i = n; i < 32 * words && i & 31; i++) set_bit(out, i);
  for (u32 w = (n + 31) / 32; w < words; w++) out[w] = ~0u;
  set_all(out, list(), RQ->list);
  if (RQ->flags & FLAG_EXCLUDE_HISTORY || RQ->kind == KIND_SIMILAR)
    for (u32 i = 0; i < RQ->history; i++) set_bit(out, events()[i].item);
  RS->at = RS->label = RS->entry = RS->row = RS->pins = RS->chosen = RS->capped = RS->diverse = 0;
  for (u32 at = 0; at < RQ->rules; at = rule_after(at)) {
    const struct rule *r = rule_at(at);
    if (r->op == RULE_CAP) RS->capped = 1;
    if (r->op == RULE_DIVERSITY) {
      RS->diverse = 1;
      RS->lambda = rule_float(r, 0);
      RS->depth = r->args[1];
    }
  }
  if (RS->capped)
    for (u32 l = 0; l < H(MAX_LABELS); l++) AT(u32, LABEL_COUNT)[l] = 0;
  RS->phase = RULES_FILTER;
  return 4 * words + 8 * (RQ->list + RQ->history) + (RS->capped ? H(MAX_LABELS) : 0);
}

// One step of the rule at RS->at: what it is about for all items at once.
static u32 rules_filter(void) {
  if (RS->at == RQ->rules) {
    RS->phase = RULES_PINS;
    return 1;
  }
  const struct rule *r = rule_at(RS->at);
  u32 *set = AT(u32, RULE_SET), *bits = 0, cost = 1, words = bit_words();
  const u32 *labels = r->args;
  u32 n = r->n;
  switch (r->op) {
    case RULE_ONLY:
      for (u32 w = 0; w < words; w++) set[w] = 0;
      set_all(set, r->args, r->n);
      only(set);
      cost = 8 * words + 8 * r->n;
      break;
    case RULE_BOOST_ITEMS:
      set_all(AT(u32, BOOSTED), r->args + 2, r->n - 2);
      cost = 8 * r->n;
      break;
    case RULE_ANY_OF:
      bits = set;
      if (!RS->label && !RS->entry)
        for (u32 w = 0; w < words; w++) set[w] = 0;
      break;
    case RULE_NONE_OF:
      bits = AT(u32, LEFT_OUT);
      break;
    case RULE_BOOST_LABELS:
      bits = AT(u32, BOOSTED);
      labels += 2;
      n -= 2;
      break;
  }
  if (bits && RS->label < n) {
    cost = mark_label(bits, labels[RS->label]);
    if (!RS->entry) RS->label++;
    return cost + (bits == set ? 4 * words : 0);
  }
  if (r->op == RULE_ANY_OF) only(set);
  RS->label = 0;
  RS->at = rule_after(RS->at);
  return cost + 4 * words;
}

// ---- hits

static inline struct table ranked(void) { return RQ->kind == KIND_SEARCH ? text_table() : item_table(); }
static inline const i16 *ranked_by(void) { return RQ->kind == KIND_SEARCH ? AT(i16, QUERY) : AT(i16, USER); }

// one over the length of a row with this sum of squares
static inline f32 over_length(i32 sum) { return sum ? 1.0f / __builtin_sqrtf((f32)sum) : 0; }

// the row of an item as int16; returns one over its length
static f32 load_row(i16 *dst, struct table t, u32 item) {
  const i8 *row = table_row(t, item), *p = row;
  for (u32 d = 0; d < t.k; d += 8, p += 32) wasm_v128_store(dst + d, row8(p));
  return over_length(row_squares(row, t.k));
}

SHARED static f32 boosted(u32 item, f32 s) {
  for (u32 at = 0; at < RQ->rules; at = rule_after(at)) {
    const struct rule *r = rule_at(at);
    if (r->op == RULE_BOOST_ITEMS ? !(r->n > 2 && has(r->args + 2, r->n - 2, item)) : r->op != RULE_BOOST_LABELS || !has_label(item, r->args + 2, r->n - 2)) continue;
    f32 factor = rule_float(r, 0);
    s = s < 0 ? s / factor : s * factor;
    s = s + rule_float(r, 1);
    s = s < -0x1p100f ? -0x1p100f : s > 0x1p100f ? 0x1p100f : s;
  }
  return s;
}

SHARED static struct hit hit_of(u32 item) {
  struct table t = ranked();
  const i8 *row = table_row(t, item);
  i32 acc = dot_row(ranked_by(), row, t.k);
  f32 s = RQ->kind == KIND_SIMILAR ? ((f32)acc * over_length(row_squares(row, t.k))) * RS->query_inv : (f32)acc * table_scale(t, item);
  return (struct hit){item, acc, bit(AT(u32, BOOSTED), item) ? boosted(item, s) : s};
}

// the cosines of the four rows of a block to the query, from their products with it
static v128_t cosines(v128_t acc, const i8 *p, u32 k) {
  v128_t sum = block_squares(p, k), inv = wasm_f32x4_div(wasm_f32x4_splat(1), wasm_f32x4_sqrt(wasm_f32x4_convert_i32x4(sum)));
  inv = wasm_v128_andnot(inv, wasm_i32x4_eq(sum, wasm_i32x4_splat(0)));
  return wasm_f32x4_mul(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), inv), wasm_f32x4_splat(RS->query_inv));
}

// ---- caps

// whether no cap keeps an item away from those that are shown
SHARED static u32 admits(u32 item) {
  if (!RS->capped) return 1;
  struct set l = labels_of(item);
  for (u32 at = 0; at < RQ->rules; at = rule_after(at)) {
    const struct rule *r = rule_at(at);
    for (u32 i = 0; r->op == RULE_CAP && i < l.n; i++)
      if (l.of[i] >= r->args[1] && l.of[i] < r->args[2] && AT(u32, LABEL_COUNT)[l.of[i]] >= r->args[0]) return 0;
  }
  return 1;
}

static void show(u32 item) {
  set_bit(AT(u32, LEFT_OUT), item);
  if (!RS->capped) return;
  struct set l = labels_of(item);
  for (u32 i = 0; i < l.n; i++) AT(u32, LABEL_COUNT)[l.of[i]]++;
}

static u32 rules_pins(void) {
  u32 *place = AT(u32, PLACES), cost = 1;
  struct hit *pin = AT(struct hit, PINS);
  for (u32 at = 0; at < RQ->rules; at = rule_after(at)) {
    const struct rule *r = rule_at(at);
    if (r->op != RULE_PIN || bit(AT(u32, LEFT_OUT), r->args[1])) continue;
    u32 i = RS->pins++;
    for (; i && place[i - 1] > r->args[0]; i--) {
      place[i] = place[i - 1];
      pin[i] = pin[i - 1];
    }
    place[i] = r->args[0];
    pin[i] = hit_of(r->args[1]);
    cost += 2 * ranked().k;
  }
  for (u32 i = 0; i < RS->pins; i++) show(pin[i].item);
  RS->want = RQ->k - RS->pins;
  RS->at = 0;
  RS->phase = RULES_CAPS;
  return cost;
}

// One step of leaving out what has a label that is used up.
static u32 rules_caps(void) {
  if (!RS->capped || RS->at == RQ->rules) {
    RS->at = RS->label = RS->row = RS->pool = 0;
    u32 left = RS->want - RS->chosen;
    RS->size = RS->diverse ? RS->depth : min_u32(RS->capped ? 4 * left + 16 : left, H(MAX_K));
    RS->phase = left ? RULES_SCAN : RULES_DONE;
    return 1;
  }
  const struct rule *r = rule_at(RS->at);
  u32 cost = 1;
  if (r->op == RULE_CAP) {
    u32 n = r->args[2] - r->args[1];
    while (RS->label < n && cost < SLICE / 2) {
      u32 l = r->args[1] + RS->label;
      cost += 4;
      if (AT(u32, LABEL_COUNT)[l] >= r->args[0]) cost += mark_label(AT(u32, LEFT_OUT), l);
      if (!RS->entry) RS->label++;
    }
    if (RS->label < n) return cost;
  }
  RS->label = 0;
  RS->at = rule_after(RS->at);
  return cost;
}

// ---- the pool

static void pool_push(struct hit x) {
  struct hit *h = AT(struct hit, POOL);
  if (RS->pool == RS->size) {
    sift_down(h, RS->pool, x);
    return;
  }
  u32 i = RS->pool++;
  for (; i && worse(&x, h + (i - 1) / 2); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
  h[i] = x;
}

static u32 rules_scan(void) {
  struct table t = ranked();
  u32 n = H(ITEMS), k = t.k, stride = row_block_bytes(k), from = RS->row, to = min_u32(n, from + round_up(SLICE / 2 / k, 4));
  u32 similar = RQ->kind == KIND_SIMILAR;
  const u32 *out = AT(u32, LEFT_OUT), *boost = AT(u32, BOOSTED);
  const i32 *x = spread_rows(AT(i32, SPREAD), ranked_by(), k);
  const i8 *p = t.rows + from / 4 * stride;
  u32 full = RS->pool == RS->size, dots = 0;
  f32 threshold = full ? AT(struct hit, POOL)->score : 0;
  for (u32 i = from; i < to; i += 4, p += stride) {
    u32 away = out[i / 32] >> (i & 31) & 15, raised = boost[i / 32] >> (i & 31) & ~away & 15;
    if (n - i < 4) away |= 15u << (n - i) & 15;
    if (away == 15) continue;
    dots++;
    v128_t acc = dot_block(x, p, k);
    v128_t score = similar ? cosines(acc, p, k) : wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), wasm_v128_load(p + 4 * k));
    if (full && !raised && !wasm_v128_any_true(wasm_f32x4_gt(score, wasm_f32x4_splat(threshold)))) continue;
    i32 a[4];
    f32 s[4];
    wasm_v128_store(a, acc);
    wasm_v128_store(s, score);
    for (u32 j = 0; j < 4; j++) {
      if (away >> j & 1) continue;
      f32 value = raised >> j & 1 ? boosted(i + j, s[j]) : s[j];
      // Items come in rising order: one with the score of the worst hit is worse still.
      if (full && !(value > threshold)) continue;
      pool_push((struct hit){i + j, a[j], value});
      full = RS->pool == RS->size;
      threshold = AT(struct hit, POOL)->score;
    }
  }
  RS->row = to;
  if (to == n) {
    RS->row = 0;
    RS->phase = RULES_EXTRA;
  }
  return dots * k * (similar ? 8 : 4) + (to - from) + 1;
}

static u32 rules_extra(void) {
  for (u32 i = H(ITEMS); i < items_in_all(); i++) {
    if (bit(AT(u32, LEFT_OUT), i)) continue;
    struct hit x = hit_of(i);
    if (RS->pool == RS->size && !(x.score > AT(struct hit, POOL)->score)) continue;
    pool_push(x);
  }
  RS->heap = RS->pool;
  RS->phase = RULES_SORT;
  return 2 * OV->inserted * ranked().k + 1;
}

// Turns the heap into a list, the best hit first.
static u32 rules_sort(void) {
  struct hit *h = AT(struct hit, POOL);
  u32 i = 0;
  for (; i < 512 && RS->heap; i++) {
    u32 n = --RS->heap;
    struct hit worst = h[0];
    sift_down(h, n, h[n]);
    h[n] = worst;
  }
  if (!RS->heap) RS->phase = !RS->pool ? RULES_DONE : RS->diverse ? RULES_RELEVANCE : RULES_GREEDY;
  return i * 64 + 1;
}

static void choose(struct hit x) {
  AT(struct hit, CHOSEN)[RS->chosen++] = x;
  show(x.item);
}

// Nothing of the pool can be chosen any more.
static void next_pass(void) {
  RS->row = RS->at = RS->label = 0;
  // A pool that was not full held all that was left.
  RS->phase = RS->chosen == RS->want || RS->pool < RS->size ? RULES_DONE : RULES_CAPS;
}

static u32 rules_greedy(void) {
  u32 from = RS->row, to = min_u32(RS->pool, from + 256);
  for (u32 i = from; i < to && RS->chosen < RS->want; i++) {
    struct hit x = AT(struct hit, POOL)[i];
    if (admits(x.item)) choose(x);
  }
  RS->row = to;
  if (to == RS->pool || RS->chosen == RS->want) next_pass();
  return 64 * (to - from) + 1;
}

// ---- diversity

static u32 rules_relevance(void) {
  struct table t = ranked();
  const struct hit *h = AT(struct hit, POOL);
  u32 from = RS->row, to = min_u32(RS->pool, from + SLICE / 2 / t.k + 1);
  f32 lowest = h[RS->pool - 1].score, span = h[0].score - lowest;
  for (u32 i = from; i < to; i++) {
    AT(f32, RELEVANCE)[i] = span > 0 ? (h[i].score - lowest) / span : 0;
    AT(f32, NEAREST)[i] = 0;
    AT(f32, POOL_INV)[i] = over_length(row_squares(table_row(t, h[i].item), t.k));
  }
  RS->row = to;
  if (to == RS->pool) {
    RS->row = 0;
    RS->phase = RULES_NEAREST;
  }
  return (to - from) * t.k;
}

// Compares the pool with the next item that is shown, if there is one.
static u32 rules_nearest(void) {
  if (RS->row == RS->pins + RS->chosen) {
    RS->phase = RULES_CHOOSE;
    return 1;
  }
  struct table t = ranked();
  u32 shown = RS->row++, item = shown < RS->pins ? AT(struct hit, PINS)[shown].item : AT(struct hit, CHOSEN)[shown - RS->pins].item;
  i16 *row = AT(i16, SHOWN);
  f32 inv = load_row(row, t, item), *nearest = AT(f32, NEAREST);
  const i32 *x = spread_rows(AT(i32, SPREAD), row, t.k);
  const struct hit *h = AT(struct hit, POOL);
  for (u32 i = 0; i < RS->pool; i++) {
    f32 c = ((f32)dot_block_row(x, table_block(t, h[i].item), t.k, lane(h[i].item)) * AT(f32, POOL_INV)[i]) * inv;
    nearest[i] = !shown || c > nearest[i] ? c : nearest[i];
  }
  return RS->pool * t.k + 1;
}

static u32 rules_choose(void) {
  const struct hit *h = AT(struct hit, POOL);
  u32 best = RS->pool;
  f32 largest = 0, rest = 1 - RS->lambda;
  for (u32 i = 0; i < RS->pool && RS->chosen < RS->want; i++) {
    if (bit(AT(u32, LEFT_OUT), h[i].item) || !admits(h[i].item)) continue;
    f32 v = RS->lambda * AT(f32, RELEVANCE)[i] - rest * AT(f32, NEAREST)[i];
    if (best == RS->pool || v > largest) {
      best = i;
      largest = v;
    }
  }
  if (best == RS->pool) {
    next_pass();
  } else {
    choose(h[best]);
    RS->phase = RULES_NEAREST;
  }
  return 16 * RS->pool + 1;
}

// Writes the answer: pins at their places, the others between them.
static void rules_done(void) {
  u32 n = 0, p = 0, c = 0;
  while (p < RS->pins || c < RS->chosen) {
    if (p < RS->pins && (AT(u32, PLACES)[p] <= n || c == RS->chosen))
      AN->hit[n++] = AT(struct hit, PINS)[p++];
    else
      AN->hit[n++] = AT(struct hit, CHOSEN)[c++];
  }
  AN->hits = n;
}

// Does one step; returns its cost, or 0 when the answer is written.
static u32 rules_step(void) {
  switch (RS->phase) {
    case RULES_BEGIN: return rules_begin();
    case RULES_FILTER: return rules_filter();
    case RULES_PINS: return rules_pins();
    case RULES_CAPS: return rules_caps();
    case RULES_SCAN: return rules_scan();
    case RULES_EXTRA: return rules_extra();
    case RULES_SORT: return rules_sort();
    case RULES_GREEDY: return rules_greedy();
    case RULES_RELEVANCE: return rules_relevance();
    case RULES_NEAREST: return rules_nearest();
    case RULES_CHOOSE: return rules_choose();
  }
  rules_done();
  return 0;
}
