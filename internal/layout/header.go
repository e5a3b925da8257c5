package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Magic opens every image: "wisp" in the first four bytes.
const Magic = 0x70736977

// headerSize is the length of the header segment in bytes.
const headerSize = 1024

// The words of the header. Everything the guest needs to find its way is here,
// so that it computes no offset itself: dimensions, padded dimensions, offsets
// into the image, offsets into a block, and addresses of the scratch area. All
// but the dimensions and the two floats follow from them; Open checks that they do.
const (
	hMagic = iota
	hABI
	hItems
	hDim
	hLayers
	hHeads
	hFFN
	hWindow
	hEventTypes
	hGapBuckets
	hInputScale // float32
	hUserInv    // float32

	// The text encoder; zero where there is none.
	hTextVocabulary
	hTextTokens
	hTextDim
	hTextLayers
	hTextHeads
	hTextFFN
	hTextFlags
	hTokenizerBytes
	hTextClasses
	hTextEpsilon // float32
	hBoundFirst  // columns of the bounds, as in Shape
	hBoundHead
	hBoundMiddle

	hLabels       // V
	hLabelEntries // E
	// The attributes of the items; zero where there are none.
	hAttributes
	hAttributeEntries
	hAttributeNameBytes
	hRatings // 1 where the image has them

	hBoundK
	hBoundMoreK
	hReach
	hDimK
	hFFNK
	hHeadDim
	hHeadPad
	hInner
	hInnerK
	hItemK
	hTextDimK
	hTextFFNK
	hTextPad // width of a float vector of the encoder, with zeros behind it
	hTextHeadPad
	hTextInner
	hTextInnerK

	// Offsets from the start of the image, in the order of its segments.
	hTokenizer
	hWord          // (V, D) int8; D is the width of the encoder here
	hWordScale     // (V) float32
	hPosition      // (Tokens, D) int8
	hPositionScale // (Tokens) float32
	hTextNormGain  // (D) float32, as all vectors of the encoder filled up to hTextPad
	hTextNormBias
	hItemMap // packed (M, dimK) int8, M the width of the model
	hItemMapScale
	hItemMapBias
	hUserMap
	hUserMapScale
	hUserMapBias
	hClassMap // packed (classes, dimK) int8
	hClassMapScale
	hClassMapBias
	hTextBlocks // L blocks, hTextBlockStride apart
	hTextBlockStride
	hUserStart // where the user tower begins
	hType      // (E, D) float32
	hGap       // (G, D) float32
	hNormGain  // (D) float32
	hNormBias  // (D) float32
	hCold      // (itemK) int16
	hBlocks    // L blocks, hBlockStride apart
	hBlockStride
	hItemRows        // blocks of four rows: [itemK/2][4][2] int8, then four float32 scales
	hTextRows        // the same of the items' texts, textPad wide
	hLabelFirst      // (N+1) uint32: where the labels of each item begin in the list
	hLabelList       // (E) uint32
	hPostingFirst    // (V+1) uint32: where the items of each label begin in the list
	hPostingList     // (E) uint32
	hBoundTransform  // (D, itemK) float32
	hBoundSteps      // (Head) float32
	hBoundScalars    // three rho, two mix and the slack, float32
	hBoundOrder      // (N) uint32
	hBoundPivots     // blocks of sixteen pivots, [boundK/2][16][2] int8
	hBoundRows       // blocks of sixteen rows, [boundK/2][16][2] int8
	hBoundMoreRows   // their second parts, [boundMoreK/2][16][2] int8
	hAttributeRows   // blocks as those of the items
	hAttributeFirst  // (N+1) uint32: where the attributes of each item begin in the list
	hAttributeList   // (entries) uint32: number, and how often in the upper eight bits
	hAttributeFactor // (N) float32
	hAttributeNames
	hRateMap // packed (D, dimK) int8
	hRateMapScale
	hRateMapBias
	hRateScalars // rateScalars float32
	hRateLevels  // (E) int16
	hRateItems   // (N) int16
	hImageEnd

	// Offsets from the start of a block.
	hBlockScalars  // scalarCount float32
	hBlockAttnGain // (D) float32
	hBlockAttnBias // (D) float32
	hBlockDistance // (H, W) float32
	hBlockQKV      // packed (3·inner, dimK) int8
	hBlockQKVScale // (3·inner) float32
	hBlockQKVBias  // (3·inner) float32
	hBlockOut      // packed (D, innerK) int8
	hBlockOutScale
	hBlockOutBias
	hBlockFFNGain
	hBlockFFNBias
	hBlockUp // packed (FFN, dimK) int8
	hBlockUpScale
	hBlockUpBias
	hBlockDown // packed (D, ffnK) int8
	hBlockDownScale
	hBlockDownBias

	// Offsets from the start of a block of the text encoder.
	hTextQKV // packed (3·inner, dimK) int8
	hTextQKVScale
	hTextQKVBias
	hTextOut // packed (D, innerK) int8
	hTextOutScale
	hTextOutBias
	hTextUp // packed (FFN, dimK) int8
	hTextUpScale
	hTextUpBias
	hTextDown // packed (D, ffnK) int8
	hTextDownScale
	hTextDownBias
	hTextAttnGain
	hTextAttnBias
	hTextFFNGain
	hTextFFNBias

	// Addresses in the guest's memory: what the host lays over the image. Rows of
	// inserted items lie as those of the table.
	hOverlay     // inserted, unavailable: counts
	hUnavailable // a bit for each item, inserted ones behind the others
	hExtraRows
	hExtraTexts
	hExtraLabels // (maxInserted, MaxItemLabels) uint32, filled up with ones

	// The scratch area behind it.
	hState
	hRequest
	hAnswer
	hX      // (reach+8, D) float32, the residual stream of new events; the text encoder's (tokens+3, textPad)
	hNorm   // (D) float32, a normalised row; the text encoder's attention, (4, inner)
	hQ      // (4, inner) int16; in the encoder packed (4, headPad) for each four tokens and head
	hK      // (reach+W+7, inner) int16, cached events before the new ones, for each block, hKVStride apart; in the encoder packed (tokens, headPad) int8 for each head
	hV      // the same; in the encoder packed (headPad, tokens) int8 for each head
	hAct    // packed (4, max K) int16, the input of a matrix product
	hSpread // the same as the product's inner loop takes it: four times as large
	hAcc    // (4, max rows) int32, its output
	hScores // (W) float32; the text encoder's (4, tokens)
	hProbs  // (W) int16, in whole fours; the text encoder's packed (4, tokens) int16; (classes) int16
	hUser   // (itemK) int16
	hTextState
	hTokenizerState
	hTokens    // (tokens) int32
	hQStep     // (H, tokens+3) float32
	hKStep     // (H, tokens+3) float32
	hVStep     // (H) float32
	hValues    // (tokens+3, inner) float32, v before it is quantized
	hVector    // (textPad) float32, the embedding
	hQuery     // (textPad) int16, the embedding as a query
	hProjected // (M or classes) float32, an item vector, what a description adds, or the logits of a text
	hHeap      // maxK hits
	hSeen      // (maxHistory + maxList) uint32
	hBits      // a bit for each item
	hRuleState
	hLeftOut    // a bit for each item and inserted one, as the next two
	hRuleSet    // those of one rule
	hBoosted    // those that a boost may change
	hLabelCount // (maxLabels) uint32: items of the answer with each label
	hPool       // maxK hits: the best that are not left out
	hRelevance  // (maxK) float32 of each hit of the pool: its score from 0 to 1
	hNearest    // its largest similarity to what was chosen
	hPoolInv    // one over the length of its row
	hChosen     // maxK hits
	hShown      // (max(itemK, textPad)) int16: a row that others are compared with
	hPins       // maxRules hits, by place
	hPlaces     // (maxRules) uint32
	hEnd
	hExplainState
	hEstimates // (W) float32, of the events that the last one attends to
	hTried     // (W) uint32: whether such an event is tried
	hWhole     // (maxExplained) float32, the scores for the whole history
	hKVStride  // bytes of the keys of a block

	hMaxHistory
	hMaxK
	hMaxList
	hMaxText
	hMaxInserted
	hMaxLabels // V and those that inserted items may bring along
	hMaxRuleWords
	hMaxExplained
	headerWords
)

var headerNames = [headerWords]string{
	hMagic: "MAGIC", hABI: "ABI", hItems: "ITEMS", hDim: "DIM", hLayers: "LAYERS", hHeads: "HEADS", hFFN: "FFN",
	hWindow: "WINDOW", hEventTypes: "EVENT_TYPES", hGapBuckets: "GAP_BUCKETS", hInputScale: "INPUT_SCALE", hUserInv: "USER_INV",
	hTextVocabulary: "TEXT_VOCABULARY", hTextTokens: "TEXT_TOKENS", hTextDim: "TEXT_DIM", hTextLayers: "TEXT_LAYERS", hTextHeads: "TEXT_HEADS",
	hTextFFN: "TEXT_FFN", hTextFlags: "TEXT_FLAGS", hTokenizerBytes: "TOKENIZER_BYTES", hTextClasses: "TEXT_CLASSES", hTextEpsilon: "TEXT_EPSILON",
	hLabels: "LABELS", hLabelEntries: "LABEL_ENTRIES",
	hAttributes: "ATTRIBUTES", hAttributeEntries: "ATTRIBUTE_ENTRIES", hAttributeNameBytes: "ATTRIBUTE_NAME_BYTES",
	hRatings: "RATINGS",
	hReach:   "REACH", hDimK: "DIM_K", hFFNK: "FFN_K", hHeadDim: "HEAD_DIM", hHeadPad: "HEAD_PAD", hInner: "INNER", hInnerK: "INNER_K", hItemK: "ITEM_K",
	hTextDimK: "TEXT_DIM_K", hTextFFNK: "TEXT_FFN_K", hTextPad: "TEXT_PAD", hTextHeadPad: "TEXT_HEAD_PAD", hTextInner: "TEXT_INNER", hTextInnerK: "TEXT_INNER_K",
	hTokenizer: "TOKENIZER", hWord: "WORD", hWordScale: "WORD_SCALE", hPosition: "POSITION", hPositionScale: "POSITION_SCALE",
	hTextNormGain: "TEXT_NORM_GAIN", hTextNormBias: "TEXT_NORM_BIAS",
	hItemMap: "ITEM_MAP", hItemMapScale: "ITEM_MAP_SCALE", hItemMapBias: "ITEM_MAP_BIAS",
	hUserMap: "USER_MAP", hUserMapScale: "USER_MAP_SCALE", hUserMapBias: "USER_MAP_BIAS",
	hClassMap: "CLASS_MAP", hClassMapScale: "CLASS_MAP_SCALE", hClassMapBias: "CLASS_MAP_BIAS",
	hTextBlocks: "TEXT_BLOCKS", hTextBlockStride: "TEXT_BLOCK_STRIDE", hUserStart: "USER_START",
	hType: "TYPE", hGap: "GAP", hNormGain: "NORM_GAIN", hNormBias: "NORM_BIAS", hCold: "COLD", hBlocks: "BLOCKS", hBlockStride: "BLOCK_STRIDE", hItemRows: "ITEM_ROWS", hTextRows: "TEXT_ROWS",
	hLabelFirst: "LABEL_FIRST", hLabelList: "LABEL_LIST", hPostingFirst: "POSTING_FIRST", hPostingList: "POSTING_LIST",
	hBoundFirst: "BOUND_FIRST", hBoundHead: "BOUND_HEAD", hBoundMiddle: "BOUND_MIDDLE", hBoundK: "BOUND_K", hBoundMoreK: "BOUND_MORE_K", hBoundTransform: "BOUND_TRANSFORM", hBoundSteps: "BOUND_STEPS", hBoundScalars: "BOUND_SCALARS",
	hBoundOrder: "BOUND_ORDER", hBoundPivots: "BOUND_PIVOTS", hBoundRows: "BOUND_ROWS", hBoundMoreRows: "BOUND_MORE_ROWS",
	hAttributeRows: "ATTRIBUTE_ROWS", hAttributeFirst: "ATTRIBUTE_FIRST", hAttributeList: "ATTRIBUTE_LIST", hAttributeFactor: "ATTRIBUTE_FACTOR", hAttributeNames: "ATTRIBUTE_NAMES",
	hRateMap: "RATE_MAP", hRateMapScale: "RATE_MAP_SCALE", hRateMapBias: "RATE_MAP_BIAS", hRateScalars: "RATE_SCALARS", hRateLevels: "RATE_LEVELS", hRateItems: "RATE_ITEMS",
	hImageEnd:     "IMAGE_END",
	hBlockScalars: "BLOCK_SCALARS", hBlockAttnGain: "BLOCK_ATTN_GAIN", hBlockAttnBias: "BLOCK_ATTN_BIAS", hBlockDistance: "BLOCK_DISTANCE",
	hBlockQKV: "BLOCK_QKV", hBlockQKVScale: "BLOCK_QKV_SCALE", hBlockQKVBias: "BLOCK_QKV_BIAS",
	hBlockOut: "BLOCK_OUT", hBlockOutScale: "BLOCK_OUT_SCALE", hBlockOutBias: "BLOCK_OUT_BIAS",
	hBlockFFNGain: "BLOCK_FFN_GAIN", hBlockFFNBias: "BLOCK_FFN_BIAS",
	hBlockUp: "BLOCK_UP", hBlockUpScale: "BLOCK_UP_SCALE", hBlockUpBias: "BLOCK_UP_BIAS",
	hBlockDown: "BLOCK_DOWN", hBlockDownScale: "BLOCK_DOWN_SCALE", hBlockDownBias: "BLOCK_DOWN_BIAS",
	hTextQKV: "TEXT_QKV", hTextQKVScale: "TEXT_QKV_SCALE", hTextQKVBias: "TEXT_QKV_BIAS",
	hTextOut: "TEXT_OUT", hTextOutScale: "TEXT_OUT_SCALE", hTextOutBias: "TEXT_OUT_BIAS",
	hTextUp: "TEXT_UP", hTextUpScale: "TEXT_UP_SCALE", hTextUpBias: "TEXT_UP_BIAS",
	hTextDown: "TEXT_DOWN", hTextDownScale: "TEXT_DOWN_SCALE", hTextDownBias: "TEXT_DOWN_BIAS",
	hTextAttnGain: "TEXT_ATTN_GAIN", hTextAttnBias: "TEXT_ATTN_BIAS", hTextFFNGain: "TEXT_FFN_GAIN", hTextFFNBias: "TEXT_FFN_BIAS",
	hOverlay: "OVERLAY", hUnavailable: "UNAVAILABLE", hExtraRows: "EXTRA_ROWS", hExtraTexts: "EXTRA_TEXTS", hExtraLabels: "EXTRA_LABELS",
	hState: "STATE", hRequest: "REQUEST", hAnswer: "ANSWER", hX: "X", hNorm: "NORM", hQ: "Q", hK: "K", hV: "V", hAct: "ACT", hSpread: "SPREAD", hAcc: "ACC",
	hScores: "SCORES", hProbs: "PROBS", hUser: "USER",
	hTextState: "TEXT_STATE", hTokenizerState: "TOKENIZER_STATE", hTokens: "TOKENS", hQStep: "Q_STEP", hKStep: "K_STEP", hVStep: "V_STEP",
	hValues: "VALUES", hVector: "VECTOR", hQuery: "QUERY", hProjected: "PROJECTED",
	hHeap: "HEAP", hSeen: "SEEN", hBits: "BITS",
	hRuleState: "RULE_STATE", hLeftOut: "LEFT_OUT", hRuleSet: "RULE_SET", hBoosted: "BOOSTED", hLabelCount: "LABEL_COUNT",
	hPool: "POOL", hRelevance: "RELEVANCE", hNearest: "NEAREST", hPoolInv: "POOL_INV", hChosen: "CHOSEN", hShown: "SHOWN",
	hPins: "PINS", hPlaces: "PLACES", hEnd: "END", hKVStride: "KV_STRIDE",
	hMaxHistory: "MAX_HISTORY", hMaxK: "MAX_K", hMaxList: "MAX_LIST", hMaxText: "MAX_TEXT",
	hMaxInserted: "MAX_INSERTED", hMaxLabels: "MAX_LABELS", hMaxRuleWords: "MAX_RULE_WORDS",
	hExplainState: "EXPLAIN_STATE", hEstimates: "ESTIMATES", hTried: "TRIED", hWhole: "WHOLE",
	hMaxExplained: "MAX_EXPLAINED",
}

// header is the parsed form of the header segment.
type header [headerWords]uint32

// placer hands out aligned ranges one after the other.
type placer struct{ at uint64 }

func (p *placer) place(bytes, align int) uint32 {
	a := uint64(align)
	p.at = (p.at + a - 1) / a * a
	start := p.at
	p.at += uint64(bytes)
	return uint32(start)
}

// headerFloats are the words of a header that do not follow from the shape.
type headerFloats struct{ inputScale, userInv, textEpsilon float32 }

// newHeader computes every word from the shape and the floats. It fails where
// image and scratch area do not fit into 4 GiB.
func newHeader(s Shape, f headerFloats) (header, error) {
	var h header
	if err := s.Validate(); err != nil {
		return h, err
	}
	set := func(word, value int) { h[word] = uint32(value) }
	set(hMagic, Magic)
	set(hABI, ABI)
	set(hItems, s.Items)
	set(hDim, s.Dim)
	set(hLayers, s.Layers)
	set(hHeads, s.Heads)
	set(hFFN, s.FFN)
	set(hWindow, s.Window)
	set(hEventTypes, s.EventTypes)
	set(hGapBuckets, s.GapBuckets)
	h[hInputScale], h[hUserInv] = math.Float32bits(f.inputScale), math.Float32bits(f.userInv)
	t := s.Text
	if t.Dim > 0 {
		h[hTextEpsilon] = math.Float32bits(f.textEpsilon)
	}
	set(hTextVocabulary, t.Vocabulary)
	set(hTextTokens, t.Tokens)
	set(hTextDim, t.Dim)
	set(hTextLayers, t.Layers)
	set(hTextHeads, t.Heads)
	set(hTextFFN, t.FFN)
	set(hTextFlags, t.flags())
	set(hTokenizerBytes, t.Tokenizer)
	set(hTextClasses, t.Classes)
	set(hLabels, s.Labels.Labels)
	set(hLabelEntries, s.Labels.Entries)
	set(hBoundFirst, s.BoundFirst)
	set(hBoundHead, s.BoundHead)
	set(hBoundMiddle, s.BoundMiddle)
	set(hBoundK, s.boundK())
	set(hBoundMoreK, s.boundMoreK())
	set(hAttributes, s.Attributes.Count)
	set(hAttributeEntries, s.Attributes.Entries)
	set(hAttributeNameBytes, s.Attributes.Names)
	set(hRatings, s.rated(1))
	set(hReach, s.Reach())
	set(hDimK, s.dimK())
	set(hFFNK, s.ffnK())
	set(hHeadDim, s.headDim())
	set(hHeadPad, s.headPad())
	set(hInner, s.inner())
	set(hInnerK, s.innerK())
	set(hItemK, s.itemK())
	set(hTextDimK, t.dimK())
	set(hTextFFNK, t.ffnK())
	set(hTextPad, t.pad())
	set(hTextHeadPad, t.headPad())
	set(hTextInner, t.inner())
	set(hTextInnerK, t.innerK())

	const vector = 16 // bytes
	image := placer{at: headerSize}
	floats := func(p *placer, n int) uint32 { return p.place(4*n, vector) }
	linear := func(p *placer, first, rows, k int) {
		h[first] = p.place(rows*k, vector)
		h[first+1], h[first+2] = floats(p, rows), floats(p, rows)
	}
	h[hTokenizer] = image.place(t.Tokenizer, alignment)
	h[hWord] = image.place(t.Vocabulary*t.Dim, alignment)
	h[hWordScale] = floats(&image, t.Vocabulary)
	h[hPosition] = image.place(t.Tokens*t.Dim, vector)
	h[hPositionScale] = floats(&image, t.Tokens)
	h[hTextNormGain], h[hTextNormBias] = floats(&image, t.pad()), floats(&image, t.pad())
	linear(&image, hItemMap, weightRows(t.mapRows(t.ItemMap, s.Dim)), t.dimK())
	linear(&image, hUserMap, weightRows(t.mapRows(t.UserMap, s.Dim)), t.dimK())
	linear(&image, hClassMap, weightRows(t.Classes), t.dimK())
	var text placer
	linear(&text, hTextQKV, weightRows(3*t.inner()), t.dimK())
	linear(&text, hTextOut, t.pad(), t.innerK())
	linear(&text, hTextUp, weightRows(t.FFN), t.dimK())
	linear(&text, hTextDown, t.pad(), t.ffnK())
	h[hTextAttnGain], h[hTextAttnBias] = floats(&text, t.pad()), floats(&text, t.pad())
	h[hTextFFNGain], h[hTextFFNBias] = floats(&text, t.pad()), floats(&text, t.pad())
	set(hTextBlockStride, roundUp(int(text.at), alignment))
	h[hTextBlocks] = image.place(t.Layers*int(h[hTextBlockStride]), alignment)

	h[hUserStart] = image.place(0, alignment)
	h[hType] = floats(&image, s.EventTypes*s.Dim)
	h[hGap] = floats(&image, s.GapBuckets*s.Dim)
	h[hNormGain], h[hNormBias] = floats(&image, s.Dim), floats(&image, s.Dim)
	h[hCold] = image.place(2*s.itemK(), vector)

	var block placer
	h[hBlockScalars] = floats(&block, scalarCount)
	h[hBlockAttnGain], h[hBlockAttnBias] = floats(&block, s.Dim), floats(&block, s.Dim)
	h[hBlockDistance] = floats(&block, s.Heads*s.Window)
	linear(&block, hBlockQKV, weightRows(3*s.inner()), s.dimK())
	linear(&block, hBlockOut, weightRows(s.Dim), s.innerK())
	h[hBlockFFNGain], h[hBlockFFNBias] = floats(&block, s.Dim), floats(&block, s.Dim)
	linear(&block, hBlockUp, weightRows(s.FFN), s.dimK())
	linear(&block, hBlockDown, weightRows(s.Dim), s.ffnK())
	set(hBlockStride, roundUp(int(block.at), alignment))
	h[hBlocks] = image.place(s.Layers*int(h[hBlockStride]), alignment)
	h[hItemRows] = image.place(rowsPad(s.Items)/4*rowBlock(s.itemK()), alignment)
	h[hTextRows] = image.place(t.textRows(s.Items)/4*rowBlock(t.pad()), alignment)
	h[hLabelFirst] = image.place(4*s.Labels.firsts(s.Items), alignment)
	h[hLabelList] = image.place(4*s.Labels.Entries, 4)
	h[hPostingFirst] = image.place(4*s.Labels.firsts(s.Labels.Labels), 4)
	h[hPostingList] = image.place(4*s.Labels.Entries, 4)
	h[hBoundTransform] = image.place(4*s.boundSide()*s.itemK(), alignment)
	h[hBoundSteps] = floats(&image, s.BoundHead)
	h[hBoundScalars] = floats(&image, boundScalars*min(s.boundK(), 1))
	h[hBoundOrder] = image.place(4*s.boundRows(), vector)
	h[hBoundPivots] = image.place(roundUp(s.boundPivots(), BoundBlock)*s.boundK(), alignment)
	h[hBoundRows] = image.place(s.boundRows()*s.boundK(), alignment)
	h[hBoundMoreRows] = image.place(s.boundRows()*s.boundMoreK(), alignment)
	h[hAttributeRows] = image.place(rowsPad(s.Attributes.Count)/4*rowBlock(s.itemK()), alignment)
	h[hAttributeFirst] = image.place(4*s.Attributes.firsts(s.Items), vector)
	h[hAttributeList] = image.place(4*s.Attributes.Entries, vector)
	h[hAttributeFactor] = image.place(4*min(s.Attributes.Count, 1)*s.Items, vector)
	h[hAttributeNames] = image.place(s.Attributes.Names, vector)
	h.placeRatings(&image, s)
	h[hImageEnd] = image.place(0, vector)

	end := ImageBase + image.at
	inserted, newLabels := t.inserted()
	items, labels := s.Items+inserted, s.Labels.Labels+newLabels
	itemBits := roundUp(items, 32) / 8
	scratch := placer{at: (end + pageSize - 1) / pageSize * pageSize}
	h[hOverlay] = scratch.place(4*overlayWords, alignment)
	h[hUnavailable] = scratch.place(itemBits, alignment)
	h[hExtraRows] = scratch.place(inserted/4*rowBlock(s.itemK()), alignment)
	h[hExtraTexts] = scratch.place(t.textRows(inserted)/4*rowBlock(t.pad()), alignment)
	h[hExtraLabels] = scratch.place(4*MaxItemLabels*inserted, alignment)
	scratch.place(0, pageSize)
	rows, tokens := s.Reach()+3, t.Tokens+3 // a block of four rows may start at the last one
	maxK, maxList := min(items, maxAnswerItems), min(items, maxListItems)
	ruleWords := maxRuleWords + maxList
	maxExplained := min(items, MaxExplained)
	// An explanation has one event more, and four of its own behind them.
	rows += 1 + 4
	maxText := 0
	if t.Dim > 0 {
		maxText = MaxText
	}
	set(hKVStride, roundUp(2*(rows+s.Window-1)*s.inner(), alignment))
	keys := max(s.Layers*int(h[hKVStride]), 2*tokens*t.inner())
	h[hState] = scratch.place(4*stateWords, alignment)
	h[hRequest] = scratch.place(4*(requestWords+eventWords*(s.Reach()+1)+maxList+ruleWords)+maxText+s.MaxStateLen(), alignment)
	h[hAnswer] = scratch.place(max(AnswerHeader{Hits: max(maxK, maxList, maxExplained*(1+2*MaxReasons), t.Classes), State: s.MaxStateLen() + 8}.Len(), AnswerHeader{Vector: t.Dim, Row: s.Dim}.Len()), alignment)
	h[hX] = scratch.place(4*max(rows*s.Dim, tokens*t.pad()), alignment)
	h[hNorm] = scratch.place(4*max(roundUp(s.Dim, 8), 4*t.inner()), alignment)
	h[hQ] = scratch.place(2*max(4*s.inner(), tokens*t.inner()), alignment)
	h[hK] = scratch.place(keys, alignment)
	h[hV] = scratch.place(keys, alignment)
	h[hAct] = scratch.place(2*4*max(s.dimK(), s.innerK(), s.ffnK(), t.dimK(), t.innerK(), t.ffnK()), alignment)
	h[hSpread] = scratch.place(4*2*4*max(s.dimK(), s.innerK(), s.ffnK(), t.dimK(), t.innerK(), t.ffnK(), t.tokensPad(), s.boundK()+s.boundMoreK()), alignment)
	h[hAcc] = scratch.place(4*4*max(weightRows(3*s.inner()), weightRows(s.FFN), weightRows(s.Dim), weightRows(3*t.inner()), weightRows(t.FFN), t.pad(), t.tokensPad(), weightRows(t.Classes)), alignment)
	h[hScores] = scratch.place(4*max(s.Window, 4*t.tokensPad()), alignment)
	h[hProbs] = scratch.place(4*max(s.Window, 2*t.tokensPad(), t.Classes), alignment)
	h[hUser] = scratch.place(2*s.itemK(), alignment)
	if t.Dim == 0 {
		tokens = 0
	}
	h[hTextState] = scratch.place(4*stateWords, alignment)
	h[hTokenizerState] = scratch.place(tokenizerState, alignment)
	h[hTokens] = scratch.place(4*t.Tokens, alignment)
	h[hQStep] = scratch.place(4*tokens*t.Heads, alignment)
	h[hKStep] = scratch.place(4*tokens*t.Heads, alignment)
	h[hVStep] = scratch.place(4*t.Heads, alignment)
	h[hValues] = scratch.place(4*tokens*t.inner(), alignment)
	h[hVector] = scratch.place(4*t.pad(), alignment)
	h[hQuery] = scratch.place(2*t.pad(), alignment)
	h[hProjected] = scratch.place(4*max(roundUp(s.Dim, 8), weightRows(t.Classes)), alignment)
	h[hHeap] = scratch.place(4*hitWords*maxK, alignment)
	h[hSeen] = scratch.place(4*(s.Reach()+1+maxList), alignment)
	h[hBits] = scratch.place(itemBits, alignment)
	h[hRuleState] = scratch.place(4*ruleStateWords, alignment)
	h[hLeftOut] = scratch.place(itemBits, alignment)
	h[hRuleSet] = scratch.place(itemBits, alignment)
	h[hBoosted] = scratch.place(itemBits, alignment)
	h[hLabelCount] = scratch.place(4*labels, alignment)
	h[hPool] = scratch.place(4*hitWords*maxK, alignment)
	h[hRelevance] = scratch.place(4*maxK, alignment)
	h[hNearest] = scratch.place(4*maxK, alignment)
	h[hPoolInv] = scratch.place(4*maxK, alignment)
	h[hChosen] = scratch.place(4*hitWords*maxK, alignment)
	h[hShown] = scratch.place(2*max(s.itemK(), t.pad()), alignment)
	h[hPins] = scratch.place(4*hitWords*MaxRules, alignment)
	h[hPlaces] = scratch.place(4*MaxRules, alignment)
	h[hExplainState] = scratch.place(4*stateWords, alignment)
	h[hEstimates] = scratch.place(4*s.Window, alignment)
	h[hTried] = scratch.place(4*s.Window, alignment)
	h[hWhole] = scratch.place(4*maxExplained, alignment)
	h[hEnd] = scratch.place(0, pageSize)
	if scratch.at > maxMemory {
		return header{}, fmt.Errorf("%w: image and scratch area need %d bytes, a guest may have %d: train with fewer items, dims or layers",
			ErrShape, scratch.at, uint64(maxMemory))
	}
	set(hMaxHistory, s.Reach())
	set(hMaxK, maxK)
	set(hMaxList, maxList)
	set(hMaxText, maxText)
	set(hMaxInserted, inserted)
	set(hMaxLabels, labels)
	set(hMaxRuleWords, ruleWords)
	set(hMaxExplained, maxExplained)
	return h, nil
}

// rowBlock is the number of bytes of four rows of k values with their scales.
func rowBlock(k int) int { return 4*k + 16 }

// encode writes the header segment.
func (h *header) encode(dst []byte) {
	for i, w := range h {
		binary.LittleEndian.PutUint32(dst[4*i:], w)
	}
}

// parseHeader reads a header segment and checks that every word is the one that
// its dimensions call for.
func parseHeader(b []byte) (header, Shape, error) {
	var h header
	if len(b) < headerSize {
		return h, Shape{}, fmt.Errorf("%w: %d bytes are too few for a header of %d", ErrImage, len(b), headerSize)
	}
	for i := range h {
		h[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	if h[hMagic] != Magic {
		return h, Shape{}, fmt.Errorf("%w: it does not start with the mark of an image", ErrImage)
	}
	if h[hABI] != ABI {
		return h, Shape{}, fmt.Errorf("%w: it has ABI %d, this program reads ABI %d", ErrImage, h[hABI], ABI)
	}
	for _, c := range b[4*headerWords : headerSize] {
		if c != 0 {
			return h, Shape{}, fmt.Errorf("%w: the padding of the header is not zero", ErrImage)
		}
	}
	s := Shape{
		Items: int(h[hItems]), Dim: int(h[hDim]), Layers: int(h[hLayers]), Heads: int(h[hHeads]), FFN: int(h[hFFN]),
		Window: int(h[hWindow]), EventTypes: int(h[hEventTypes]), GapBuckets: int(h[hGapBuckets]),
		Text: TextShape{
			Vocabulary: int(h[hTextVocabulary]), Tokens: int(h[hTextTokens]), Dim: int(h[hTextDim]), Layers: int(h[hTextLayers]),
			Heads: int(h[hTextHeads]), FFN: int(h[hTextFFN]), Tokenizer: int(h[hTokenizerBytes]), Classes: int(h[hTextClasses]),
		},
	}
	s.Text.setFlags(h[hTextFlags])
	s.Labels = LabelShape{Labels: int(h[hLabels]), Entries: int(h[hLabelEntries])}
	s.BoundFirst, s.BoundHead, s.BoundMiddle = int(h[hBoundFirst]), int(h[hBoundHead]), int(h[hBoundMiddle])
	s.Attributes = AttributeShape{Count: int(h[hAttributes]), Entries: int(h[hAttributeEntries]), Names: int(h[hAttributeNameBytes])}
	s.Ratings = h[hRatings] != 0
	f := headerFloats{math.Float32frombits(h[hInputScale]), math.Float32frombits(h[hUserInv]), math.Float32frombits(h[hTextEpsilon])}
	if err := checkFloats("scale", []float32{f.inputScale, f.userInv, f.textEpsilon}, false); err != nil {
		return h, Shape{}, fmt.Errorf("%w: header: %w", ErrImage, err)
	}
	want, err := newHeader(s, f)
	if err != nil {
		return h, Shape{}, fmt.Errorf("%w: header: %w", ErrImage, err)
	}
	for i := range h {
		if h[i] != want[i] {
			return h, Shape{}, fmt.Errorf("%w: header word %s is %d, these dimensions call for %d", ErrImage, headerNames[i], h[i], want[i])
		}
	}
	return h, s, nil
}
