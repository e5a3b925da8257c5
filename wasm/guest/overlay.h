// What the host lays over the image at run time: items that the image does not
// have, and items of both kinds that no ranking may hold. Included by kernel.c;
// the form is that of internal/layout/overlay.go. The guest only reads it.
#pragma once
#include "rows.h"

struct overlay {
  u32 inserted, unavailable, zero[2];
};
#define OV AT(const struct overlay, OVERLAY)

// A table of rows, and the rows of inserted items, whose numbers go on where the table
// ends.
struct table {
  const i8 *rows, *extra;
  u32 k;
};

static inline u32 items_in_all(void) { return H(ITEMS) + OV->inserted; }
// its row in the block
static inline u32 lane(u32 item) { return (item < H(ITEMS) ? item : item - H(ITEMS)) & 3; }

static inline const i8 *table_block(struct table t, u32 item) {
  return item < H(ITEMS) ? t.rows + item / 4 * row_block_bytes(t.k) : t.extra + (item - H(ITEMS)) / 4 * row_block_bytes(t.k);
}
static inline const i8 *table_row(struct table t, u32 item) { return row_start(table_block(t, item), lane(item)); }
static inline f32 table_scale(struct table t, u32 item) { return ((const f32 *)(table_block(t, item) + 4 * t.k))[lane(item)]; }

static inline struct table item_table(void) { return (struct table){IMAGE(i8, ITEM_ROWS), AT(i8, EXTRA_ROWS), H(ITEM_K)}; }
static inline struct table text_table(void) { return (struct table){IMAGE(i8, TEXT_ROWS), AT(i8, EXTRA_TEXTS), H(TEXT_PAD)}; }
static inline const i8 *item_row(u32 item) { return table_row(item_table(), item); }
static inline f32 item_scale(u32 item) { return table_scale(item_table(), item); }
