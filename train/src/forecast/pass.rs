//! One micro-batch on the processor, result by result: what is held at the worst moment, and what for.
//!
//! A sum over everything that is ever held would be far too much: the logits are gone before the
//! first layer's backward pass begins. And a list of what is alive would be too little: results are
//! kept to be used again by results of the same size. So the passes are gone through as
//! `model::decoder` and `train::gradients` do them, with sizes instead of numbers.
//!
//! Legend: T tokens, d width, q and k widths of queries and of keys, m width of the MLP, V vocabulary,
//! r rank of adapters.

use std::collections::BTreeMap;

use model::config::ModelConfig;
use model::lora::{Linear, LoraSettings};
use model::memory;

use crate::forecast::Computer;
use crate::gradients::logit_rows;
use crate::settings::Recompute;

/// What memory is for, in the order in which a plan tells it.
pub(super) const PURPOSES: [&str; 8] = [
    "gradients",
    "inputs of layers",
    "results of attention",
    "saved for the backward pass",
    "backward pass of a layer",
    "logits",
    "packed weights",
    "kept to be used again",
];
const GRADIENTS: usize = 0;
const INPUTS: usize = 1;
const ATTENDED: usize = 2;
const SAVED: usize = 3;
const PASSING: usize = 4;
const LOGITS: usize = 5;
const PACKED: usize = 6;
const IDLE: usize = 7;

/// Bytes by purpose at the worst moment of a micro-batch.
pub(super) fn worst(
    config: &ModelConfig,
    lora: Option<&LoraSettings>,
    recompute: Recompute,
    tokens: usize,
) -> [u64; PURPOSES.len()] {
    let mut pass = Pass {
        config,
        lora,
        tokens,
        memory: Memory::default(),
    };
    match recompute {
        Recompute::None => pass.at_once(),
        Recompute::Blocks => pass.by_layers(),
    }
    pass.memory.at_most
}

/// A result that is held.
#[must_use]
struct Piece {
    what: usize,
    elements: usize,
}

/// What is held now, and what was at the worst moment so far.
#[derive(Default)]
struct Memory {
    held: [u64; PURPOSES.len()],
    /// Pieces that wait to be used again, by their elements.
    idle: BTreeMap<usize, u64>,
    at_most: [u64; PURPOSES.len()],
}

impl Memory {
    fn take(&mut self, what: usize, elements: usize) -> Piece {
        let bytes = match memory::kept_elements(elements) {
            None => 4 * elements as u64,
            Some(kept) => {
                let bytes = 4 * kept as u64;
                if let Some(count) = self.idle.get_mut(&kept)
                    && *count > 0
                {
                    *count -= 1;
                    self.held[IDLE] -= bytes;
                }
                bytes
            }
        };
        self.held[what] += bytes;
        self.look();
        Piece { what, elements }
    }

    fn look(&mut self) {
        let sum = |bytes: &[u64]| bytes.iter().sum::<u64>();
        if sum(&self.held) > sum(&self.at_most) {
            self.at_most = self.held;
        }
    }

    /// Memory that nobody keeps when it is given back.
    fn use_for_a_moment(&mut self, what: usize, bytes: u64) {
        self.held[what] += bytes;
        self.look();
        self.held[what] -= bytes;
    }

    fn give(&mut self, piece: Piece) {
        match memory::kept_elements(piece.elements) {
            None => self.held[piece.what] -= 4 * piece.elements as u64,
            Some(kept) => {
                let bytes = 4 * kept as u64;
                self.held[piece.what] -= bytes;
                if self.held[IDLE] + bytes <= memory::MOST_KEPT_BYTES {
                    *self.idle.entry(kept).or_default() += 1;
                    self.held[IDLE] += bytes;
                }
            }
        }
    }

    fn give_all(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        pieces.into_iter().for_each(|piece| self.give(piece));
    }

    /// Memory that serves another purpose from now on.
    fn rename(&mut self, piece: Piece, what: usize) -> Piece {
        let bytes = 4 * memory::kept_elements(piece.elements).unwrap_or(piece.elements) as u64;
        self.held[piece.what] -= bytes;
        self.held[what] += bytes;
        Piece {
            what,
            elements: piece.elements,
        }
    }
}

/// What a layer's forward pass leaves for its backward pass.
struct Graph {
    normed: Piece,
    /// Queries, keys and values as attention saw them.
    attended: [Piece; 3],
    /// Queries and keys before their norms.
    unnormed: Vec<Piece>,
    mixed: Piece,
    log_sums: Piece,
    middle: Piece,
    normed_middle: Piece,
    gate: Piece,
    up: Piece,
    product: Piece,
    /// What adapters made of their inputs and, with dropout, saw of them, by their maps.
    narrow: Vec<(Linear, Piece)>,
}

struct Pass<'a> {
    config: &'a ModelConfig,
    lora: Option<&'a LoraSettings>,
    tokens: usize,
    memory: Memory,
}

/// Columns of packed weights that lie together.
const PANEL: usize = 16;
/// Tokens that a gradient of weights packs at a time.
const TOKENS_PACKED: usize = 2048;

impl Pass<'_> {
    fn widths(&self) -> [usize; 4] {
        let config = self.config;
        [
            config.hidden_size,
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
            config.intermediate_size,
        ]
    }

    fn is_full(&self) -> bool {
        self.lora.is_none()
    }

    fn rank(&self, which: Linear) -> Option<usize> {
        let lora = self.lora.filter(|lora| lora.targets.contains(&which));
        lora.map(|lora| lora.rank)
    }

    /// Whether adapters do not see all of their inputs.
    fn drops(&self) -> bool {
        self.lora.is_some_and(|lora| lora.dropout > 0.0)
    }

    fn take(&mut self, what: usize, width: usize) -> Piece {
        self.memory.take(what, self.tokens * width)
    }

    fn give(&mut self, piece: Piece) {
        self.memory.give(piece);
    }

    /// A product by packed weights `[inner, cols]`, which are gone after it.
    fn product(&mut self, what: usize, inner: usize, cols: usize) -> Piece {
        let packed = inner * cols.next_multiple_of(PANEL);
        let packed = self.memory.take(PACKED, packed);
        let result = self.take(what, cols);
        self.give(packed);
        result
    }

    /// A gradient of weights `[outputs, inputs]`.
    fn weight_gradient(&mut self, outputs: usize, inputs: usize) -> Piece {
        let gradient = self.memory.take(GRADIENTS, outputs * inputs);
        let packed = TOKENS_PACKED.min(self.tokens) * inputs.next_multiple_of(PANEL);
        let packed = self.memory.take(PACKED, packed);
        self.give(packed);
        gradient
    }

    /// A linear map without its result: what its adapter leaves, if it has one.
    fn map_unread(&mut self, which: Linear, inputs: usize, narrow: &mut Vec<(Linear, Piece)>) {
        let Some(rank) = self.rank(which) else {
            return;
        };
        if self.drops() {
            let left = self.take(SAVED, inputs);
            narrow.push((which, left));
        }
        let inner = self.product(SAVED, inputs, rank);
        narrow.push((which, inner));
    }

    /// A linear map with its adapter, if it has one; what the adapter leaves goes to `narrow`.
    fn map(
        &mut self,
        which: Linear,
        [i, o]: [usize; 2],
        narrow: &mut Vec<(Linear, Piece)>,
    ) -> Piece {
        let plain = self.product(SAVED, i, o);
        let Some(rank) = self.rank(which) else {
            return plain;
        };
        if self.drops() {
            let left = self.take(SAVED, i);
            narrow.push((which, left));
        }
        let inner = self.product(SAVED, i, rank);
        let adapted = self.product(SAVED, rank, o);
        self.give(plain);
        narrow.push((which, inner));
        adapted
    }

    /// Backward pass of a linear map: its gradients, and that of its input, added to `sum`.
    fn map_back(
        &mut self,
        which: Linear,
        [i, o]: [usize; 2],
        graph: &mut Vec<(Linear, Piece)>,
        sum: Option<Piece>,
        gradients: &mut Vec<Piece>,
    ) -> Piece {
        let mut sum = sum;
        let mut add = |pass: &mut Self, piece: Piece| {
            if let Some(old) = sum.replace(piece) {
                pass.give(old);
            }
        };
        if let Some(rank) = self.rank(which) {
            let d_narrow = self.product(PASSING, o, rank);
            gradients.push(self.weight_gradient(o, rank));
            let mut d_input = self.product(PASSING, rank, i);
            gradients.push(self.weight_gradient(rank, i));
            self.give(d_narrow);
            while let Some(place) = graph.iter().position(|(of, _)| *of == which) {
                let (_, piece) = graph.swap_remove(place);
                self.give(piece);
            }
            if self.drops() {
                let dropped = self.take(PASSING, i);
                self.give(std::mem::replace(&mut d_input, dropped));
            }
            add(self, d_input);
        }
        let d_input = self.product(PASSING, o, i);
        if self.is_full() {
            gradients.push(self.weight_gradient(o, i));
        }
        add(self, d_input);
        sum.expect("just put there")
    }

    /// Forward pass of a layer: what it leaves, and its result.
    fn layer(&mut self) -> (Graph, Piece) {
        let mut graph = self.up_to_the_end(None);
        let [d, _, _, m] = self.widths();
        let result = self.map(Linear::Down, [m, d], &mut graph.narrow);
        (graph, result)
    }

    /// The same for gradients alone, with what was kept of attention: there is no result.
    fn layer_again(&mut self, kept: [Piece; 2]) -> Graph {
        let mut graph = self.up_to_the_end(Some(kept));
        let [_, _, _, m] = self.widths();
        self.map_unread(Linear::Down, m, &mut graph.narrow);
        graph
    }

    fn up_to_the_end(&mut self, kept: Option<[Piece; 2]>) -> Graph {
        let [d, q, k, m] = self.widths();
        let mut narrow = Vec::new();
        let normed = self.take(SAVED, d);
        let mut attended = [(Linear::Query, q), (Linear::Key, k), (Linear::Value, k)]
            .map(|(which, width)| self.map(which, [d, width], &mut narrow));
        let mut unnormed = Vec::new();
        if self.config.qk_norm {
            for (place, width) in [(0, q), (1, k)] {
                let piece = self.take(SAVED, width);
                unnormed.push(std::mem::replace(&mut attended[place], piece));
            }
        }
        let [mixed, log_sums] = match kept {
            Some(kept) => kept,
            None => [q, self.config.num_attention_heads].map(|width| self.take(SAVED, width)),
        };
        let middle = self.map(Linear::Output, [q, d], &mut narrow);
        let normed_middle = self.take(SAVED, d);
        let gate = self.map(Linear::Gate, [d, m], &mut narrow);
        let up = self.map(Linear::Up, [d, m], &mut narrow);
        let product = self.take(SAVED, m);
        Graph {
            normed,
            attended,
            unnormed,
            mixed,
            log_sums,
            middle,
            normed_middle,
            gate,
            up,
            product,
            narrow,
        }
    }

    /// A linear map with its adapter, of which nothing is left.
    fn map_alone(&mut self, which: Linear, widths: [usize; 2]) -> Piece {
        let mut narrow = Vec::new();
        let result = self.map(which, widths, &mut narrow);
        self.memory
            .give_all(narrow.into_iter().map(|(_, piece)| piece));
        result
    }

    /// Forward pass of a layer without a graph: its result, and what is kept of attention.
    fn layer_alone(&mut self) -> (Piece, [Piece; 2]) {
        let [d, q, k, m] = self.widths();
        let normed = self.take(PASSING, d);
        let mut attended = [(Linear::Query, q), (Linear::Key, k), (Linear::Value, k)]
            .map(|(which, width)| self.map_alone(which, [d, width]));
        self.give(normed);
        if self.config.qk_norm {
            for (place, width) in [(0, q), (1, k)] {
                let piece = self.take(PASSING, width);
                let old = std::mem::replace(&mut attended[place], piece);
                self.give(old);
            }
        }
        let kept = [q, self.config.num_attention_heads].map(|width| self.take(ATTENDED, width));
        self.memory.give_all(attended);
        let middle = self.map_alone(Linear::Output, [q, d]);
        let normed = self.take(PASSING, d);
        let gate = self.map_alone(Linear::Gate, [d, m]);
        let up = self.map_alone(Linear::Up, [d, m]);
        self.give(normed);
        let product = self.take(PASSING, m);
        self.memory.give_all([gate, up]);
        let result = self.map_alone(Linear::Down, [m, d]);
        self.memory.give_all([product, middle]);
        (self.memory.rename(result, INPUTS), kept)
    }

    /// Backward pass of a layer from the gradient of its result to that of its input.
    fn layer_back(&mut self, graph: Graph, d_result: Piece, gradients: &mut Vec<Piece>) -> Piece {
        let [d, q, k, m] = self.widths();
        let mut narrow = graph.narrow;
        let d_product = self.map_back(Linear::Down, [m, d], &mut narrow, None, gradients);
        self.give(graph.product);
        let (d_gate, d_up) = (self.take(PASSING, m), self.take(PASSING, m));
        self.memory.give_all([d_product, graph.gate, graph.up]);
        let d_normed = self.map_back(Linear::Up, [d, m], &mut narrow, None, gradients);
        self.give(d_up);
        let d_normed = self.map_back(Linear::Gate, [d, m], &mut narrow, Some(d_normed), gradients);
        self.memory.give_all([d_gate, graph.normed_middle]);
        let d_middle = self.take(PASSING, d);
        self.memory.give_all([d_normed, d_result, graph.middle]);
        let d_mixed = self.map_back(Linear::Output, [q, d], &mut narrow, None, gradients);
        let mut back = [q, k, k].map(|width| self.take(PASSING, width));
        let (dim, heads) = (self.config.head_dim, self.config.num_key_value_heads);
        let scratch = memory::attention_bytes(self.tokens, dim, heads);
        self.memory.use_for_a_moment(PASSING, scratch);
        self.memory.give_all([d_mixed, graph.mixed, graph.log_sums]);
        self.memory.give_all(graph.attended);
        for (place, unnormed) in graph.unnormed.into_iter().enumerate() {
            let piece = self.take(PASSING, [q, k][place]);
            let old = std::mem::replace(&mut back[place], piece);
            self.memory.give_all([old, unnormed]);
        }
        let mut d_normed = None;
        let maps = [(Linear::Value, k), (Linear::Key, k), (Linear::Query, q)];
        for ((which, width), piece) in maps.into_iter().zip(back.into_iter().rev()) {
            let found = self.map_back(which, [d, width], &mut narrow, d_normed.take(), gradients);
            self.give(piece);
            d_normed = Some(found);
        }
        self.give(graph.normed);
        let d_input = self.take(PASSING, d);
        self.memory.give_all(d_normed);
        self.give(d_middle);
        d_input
    }

    /// Final norm, projection and loss, forward and backward: the gradient of what comes in.
    fn head(&mut self, gradients: &mut Vec<Piece>) -> Piece {
        let [d, ..] = self.widths();
        let vocabulary = self.config.vocab_size;
        let rows = logit_rows(vocabulary, Computer::Cpu).min(self.tokens);
        let normed = self.take(SAVED, d);
        let d_normed = self.take(PASSING, d);
        if self.is_full() {
            gradients.push(self.memory.take(GRADIENTS, vocabulary * d));
        }
        let packed = [
            d * vocabulary.next_multiple_of(PANEL),
            vocabulary * d.next_multiple_of(PANEL),
        ];
        let packed = packed.map(|elements| self.memory.take(PACKED, elements));
        let logits = self.memory.take(LOGITS, rows * vocabulary);
        let gathered = [(); 2].map(|()| self.memory.take(LOGITS, rows * d));
        if self.is_full() {
            let columns = TOKENS_PACKED.min(rows) * d.next_multiple_of(PANEL);
            let columns = self.memory.take(PACKED, columns);
            self.give(columns);
        }
        self.give(logits);
        self.memory.give_all(gathered);
        self.memory.give_all(packed);
        self.give(normed);
        let d_result = self.take(PASSING, d);
        self.give(d_normed);
        d_result
    }

    fn at_once(&mut self) {
        let [d, ..] = self.widths();
        let mut graphs = Vec::new();
        let mut inputs = vec![self.take(SAVED, d)];
        for _ in 0..self.config.num_hidden_layers {
            let (graph, result) = self.layer();
            graphs.push(graph);
            inputs.push(result);
        }
        let mut gradients = Vec::new();
        let mut incoming = self.head(&mut gradients);
        self.memory.give_all(inputs.pop());
        while let Some(graph) = graphs.pop() {
            incoming = self.layer_back(graph, incoming, &mut gradients);
            self.memory.give_all(inputs.pop());
        }
        if self.is_full() {
            let table = self.memory.take(GRADIENTS, self.config.vocab_size * d);
            gradients.push(table);
        }
        self.give(incoming);
        self.memory.give_all(gradients);
    }

    fn by_layers(&mut self) {
        let [d, ..] = self.widths();
        let (mut inputs, mut kept) = (vec![self.take(INPUTS, d)], Vec::new());
        for _ in 0..self.config.num_hidden_layers {
            let (result, of_layer) = self.layer_alone();
            inputs.push(result);
            kept.push(of_layer);
        }
        let mut gradients = Vec::new();
        let mut incoming = self.head(&mut gradients);
        // The last input lives as long as the pass, and so does the gradient of a tied projection.
        let last = inputs.pop();
        let tied = match self.config.tie_word_embeddings && self.is_full() {
            true => gradients.pop(),
            false => None,
        };
        self.memory.give_all(gradients.drain(..));
        while let (Some(input), Some(kept)) = (inputs.pop(), kept.pop()) {
            let graph = self.layer_again(kept);
            incoming = self.layer_back(graph, incoming, &mut gradients);
            self.give(input);
            self.memory.give_all(gradients.drain(..));
        }
        if self.is_full() {
            let table = self.memory.take(GRADIENTS, self.config.vocab_size * d);
            self.give(table);
        }
        self.memory.give_all(tied);
        self.memory.give_all(last);
        self.give(incoming);
    }
}
