// WordPiece in steps of bounded work, over the packed form of a tokenizer where
// it lies. internal/tokenize is the definition: encode.go and tables.go what is
// computed, function by function, pack.go the bytes. Its OpenPacked has checked
// that no look-up leaves them.
#pragma once
#include <stdint.h>
#include <wasm_simd128.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint64_t u64;

#define WP_MAX_WORD 100  // characters of a word that is not unknown
#define WP_STEP 64       // characters and added tokens that a step reads
#define WP_NONE 0xFFFFFFFFu

// Words of the packed form's header; offsets are in bytes from its start.
enum {
  WP_MAGIC,
  WP_VERSION,
  WP_BYTES,
  WP_HANGUL,
  WP_LONGEST,
  WP_UNKNOWN,
  WP_CLASS,
  WP_SEPARATOR,
  WP_PAD,
  WP_MASK,
  WP_CONTINUING,
  WP_PREFIX_BYTES,
  WP_ENTRIES,
  WP_RECORDS,
  WP_RUNES,
  WP_PREFIX,
  WP_TABLE_PAGE,
  WP_TABLE_ENTRY,
  WP_TABLE_CLASS,
  WP_TABLE_COMBINING,
  WP_TABLE_DECOMPOSED,
  WP_TABLE_LOWER,
  WP_TABLE_RUNES,
  WP_PIECES,
};

struct wp_trie {
  u32 nodes, tokens, blocks, kids, labels, ends, ids;
};
#define WP_ADDED (WP_PIECES + sizeof(struct wp_trie) / 4)

// Properties of code points.
enum { WP_SPACE = 1, WP_CONTROL = 2, WP_PUNCTUATION = 4, WP_CHINESE = 8, WP_MARK = 16 };

// Where a text stands between two steps; count ids are written.
struct wp_state {
  const u8 *blob, *text;
  u32 bytes, at;  // of the text; read so far
  i32 *ids;
  u32 count, stop;        // stop: place of the separator where ids are cut
  u32 done;
  u32 length, run, beyond;  // the word: characters, the first of its last marks, characters not kept
  u32 word[WP_MAX_WORD];    // code points, with combining classes in the top 8 bits
  u8 utf8[4 * WP_MAX_WORD];
};

#define WP_HEAD(s) ((const u32 *)(s)->blob)
#define WP_ARRAY(s, type, offset) ((const type *)((s)->blob + (offset)))
#define WP_TABLE(s, type, table) WP_ARRAY(s, type, WP_HEAD(s)[WP_TABLE_##table])

// ---- tries

// The first child of a node: the children of the nodes before it in its block of
// 64 lie between that block's first child and it.
static u32 wp_first(const struct wp_state *s, const struct wp_trie *t, u32 node) {
  const u8 *kids = WP_ARRAY(s, u8, t->kids);
  v128_t lanes = wasm_i8x16_make(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), sum = wasm_i32x4_splat(0);
  for (u32 n = node & ~63u; n < node; n += 16) {
    v128_t before = wasm_i8x16_lt(lanes, wasm_i8x16_splat((int8_t)(node - n)));
    v128_t pairs = wasm_u16x8_extadd_pairwise_u8x16(wasm_v128_and(wasm_v128_load(kids + n), before));
    sum = wasm_i32x4_add(sum, wasm_u32x4_extadd_pairwise_u16x8(pairs));
  }
  sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 2, 3, 0, 1));
  sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(sum, sum, 1, 0, 3, 2));
  return WP_ARRAY(s, u32, t->blocks)[node / 64 * 2] + (u32)wasm_i32x4_extract_lane(sum, 0);
}

static u32 wp_child(const struct wp_state *s, const struct wp_trie *t, u32 node, u8 c) {
  const u8 *labels = WP_ARRAY(s, u8, t->labels);
  u32 lo = wp_first(s, t, node), end = lo + WP_ARRAY(s, u8, t->kids)[node], hi = end;
  while (lo < hi) {
    u32 mid = (lo + hi) / 2;
    if (labels[mid] < c) lo = mid + 1;
    else hi = mid;
  }
  return lo < end && labels[lo] == c ? lo : WP_NONE;
}

static inline u64 wp_ends(const struct wp_state *s, const struct wp_trie *t, u32 node) { return WP_ARRAY(s, u64, t->ends)[node / 64]; }

// The id of the token that ends at a node.
static u32 wp_id(const struct wp_state *s, const struct wp_trie *t, u32 node) {
  u32 before = (u32)__builtin_popcountll(wp_ends(s, t, node) & (((u64)1 << (node & 63)) - 1));
  const u8 *id = WP_ARRAY(s, u8, t->ids) + WP_ARRAY(s, u32, t->blocks)[node / 64 * 2 + 1] + before;
  return id[0] | (u32)id[t->tokens] << 8 | (u32)id[2 * t->tokens] << 16;
}

// The length in bytes of the longest token that p[0..n) starts with, from a node
// on; 0 where there is none.
static u32 wp_longest(const struct wp_state *s, const struct wp_trie *t, u32 node, const u8 *p, u32 n, u32 *id) {
  u32 size = 0, last = 0;
  for (u32 i = 0; i < n && node != WP_NONE; i++) {
    node = wp_child(s, t, node, p[i]);
    if (node != WP_NONE && wp_ends(s, t, node) >> (node & 63) & 1) {
      last = node;
      size = i + 1;
    }
  }
  if (size) *id = wp_id(s, t, last);
  return size;
}

// ---- words

static inline void wp_emit(struct wp_state *s, u32 id) {
  if (s->count < s->stop) s->ids[s->count++] = (i32)id;
}

static u32 wp_append_utf8(u8 *p, u32 c) {
  if (c < 0x80) {
    p[0] = (u8)c;
    return 1;
  }
  u32 n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (u32 i = n - 1; i; i--, c >>= 6) p[i] = (u8)(0x80 | (c & 0x3F));
  p[0] = (u8)(0xF00 >> n | c);
  return n;
}

// Appends the ids of the word's pieces and returns 1, or returns 0 where they do
// not make it up. An empty word has none.
static u32 wp_pieces(struct wp_state *s) {
  const struct wp_trie *t = (const struct wp_trie *)(WP_HEAD(s) + WP_PIECES);
  u32 n = 0, node = 0, id;
  for (u32 i = 0; i < s->length; i++) n += wp_append_utf8(s->utf8 + n, s->word[i] & 0xFFFFFF);
  for (u32 at = 0; at < n; node = WP_HEAD(s)[WP_CONTINUING]) {
    u32 size = wp_longest(s, t, node, s->utf8 + at, n - at, &id);
    if (!size) return 0;
    wp_emit(s, id);
    at += size;
  }
  return 1;
}

static void wp_end_word(struct wp_state *s) {
  u32 start = s->count;
  if (start < s->stop && (s->beyond || !wp_pieces(s))) {
    s->count = start;
    wp_emit(s, WP_HEAD(s)[WP_UNKNOWN]);
  }
  s->length = s->run = s->beyond = 0;
}

// ---- characters

static inline u32 wp_entry(const struct wp_state *s, u32 c) { return WP_TABLE(s, u16, ENTRY)[WP_TABLE(s, u16, PAGE)[c >> 7] << 7 | (c & 127)]; }
static inline u32 wp_class(const struct wp_state *s, u32 c) { return WP_TABLE(s, u8, CLASS)[wp_entry(s, c)]; }

// Adds a character to the word, among the marks that end it in canonical order,
// or ends the word.
static void wp_split(struct wp_state *s, u32 c, u32 combining) {
  u32 class = wp_class(s, c);
  if (class & (WP_SPACE | WP_PUNCTUATION)) {
    wp_end_word(s);
    if (class & WP_SPACE) return;
    s->word[s->length++] = c;
    wp_end_word(s);
    return;
  }
  if (s->length == WP_HEAD(s)[WP_LONGEST]) {
    s->beyond = 1;
    return;
  }
  u32 i = s->length++;
  for (; i > s->run && s->word[i - 1] >> 24 > combining; i--) s->word[i] = s->word[i - 1];
  s->word[i] = combining << 24 | c;
}

static void wp_lower(struct wp_state *s, u32 c, u32 combining) {
  const u32 *run = WP_TABLE(s, u32, RUNES) + WP_TABLE(s, u16, LOWER)[wp_entry(s, c)];
  if (!run[0]) wp_split(s, c, combining);
  for (u32 i = 1; i <= run[0]; i++) wp_split(s, run[i], combining);
}

// A character of a decomposition: non-spacing marks are dropped, and what does
// not combine ends a run of marks.
static void wp_part(struct wp_state *s, u32 c) {
  u32 at = wp_entry(s, c), combining = WP_TABLE(s, u8, COMBINING)[at];
  if (!combining) s->run = s->length;
  if (!(WP_TABLE(s, u8, CLASS)[at] & WP_MARK)) wp_lower(s, c, combining);
}

static void wp_accents(struct wp_state *s, u32 c) {
  u32 syllable = c - 0xAC00;
  if (syllable < 11172 && WP_HEAD(s)[WP_HANGUL]) {
    wp_part(s, 0x1100 + syllable / 588);
    wp_part(s, 0x1161 + syllable % 588 / 28);
    if (syllable % 28) wp_part(s, 0x11A7 + syllable % 28);
    return;
  }
  const u32 *run = WP_TABLE(s, u32, RUNES) + WP_TABLE(s, u16, DECOMPOSED)[wp_entry(s, c)];
  if (!run[0]) wp_part(s, c);
  for (u32 i = 1; i <= run[0]; i++) wp_part(s, run[i]);
}

static void wp_char(struct wp_state *s, u32 c) {
  u32 class = wp_class(s, c);
  if (class & WP_CONTROL) return;
  if (class & (WP_SPACE | WP_CHINESE)) wp_end_word(s);
  if (class & WP_SPACE) return;
  wp_accents(s, c);
  if (class & WP_CHINESE) wp_end_word(s);
}

// ---- text

// Reads one code point of n > 0 bytes; a byte that starts none counts as U+FFFD.
static u32 wp_decode(const u8 *p, u32 n, u32 *c) {
  u32 b = p[0], size = b < 0x80 ? 1 : b < 0xC2 ? 0 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
  *c = size == 1 ? b : b & (0xFFu >> (size + 1));
  for (u32 i = 1; i < size; i++) {
    if (i == n || (p[i] & 0xC0) != 0x80) size = 0;
    else *c = *c << 6 | (p[i] & 0x3F);
  }
  // Forms that are too long, surrogates, and values beyond Unicode.
  if ((size == 3 && (*c < 0x800 || *c >> 11 == 0x1B)) || (size == 4 && (*c < 0x10000 || *c > 0x10FFFF))) size = 0;
  if (!size) *c = 0xFFFD;
  return size ? size : 1;
}

// Starts a text. The ids, with the class token and the separator, are at most max;
// less than 2 acts as 2, and ids must have that many places. Blob is 16-byte
// aligned.
static void wp_begin(struct wp_state *s, const void *blob, const u8 *text, u32 bytes, i32 *ids, u32 max) {
  s->blob = blob;
  s->text = text;
  s->bytes = bytes;
  s->ids = ids;
  s->stop = max > 2 ? max - 1 : 1;
  s->at = s->count = s->done = s->length = s->run = s->beyond = 0;
  s->ids[s->count++] = (i32)WP_HEAD(s)[WP_CLASS];
}

// Reads on, and returns whether there is more to do. A step ends after WP_STEP
// characters or added tokens, each of which ends a few words at most.
static u32 wp_step(struct wp_state *s) {
  const struct wp_trie *added = (const struct wp_trie *)(WP_HEAD(s) + WP_ADDED);
  if (s->done) return 0;
  for (u32 i = 0; i < WP_STEP && s->at < s->bytes && s->count < s->stop; i++) {
    const u8 *p = s->text + s->at;
    u32 left = s->bytes - s->at, c, size = wp_longest(s, added, 0, p, left, &c);
    s->at += size;
    if (size) {
      wp_end_word(s);
      wp_emit(s, c);
    } else {
      s->at += wp_decode(p, left, &c);
      wp_char(s, c);
    }
  }
  if (s->at < s->bytes && s->count < s->stop) return 1;
  wp_end_word(s);
  s->ids[s->count++] = (i32)WP_HEAD(s)[WP_SEPARATOR];
  s->done = 1;
  return 0;
}
