//! Attention and its gradients in the terms of cuDNN's graphs: arrays, and what is computed from which.
//!
//! cuDNN recognises these graphs and answers with one kernel each (one and some small ones for the
//! gradients) in which scores are never written to memory. Here they are plain data, which a test evaluates
//! by the book, so that what is asked for is known to be attention before a card is asked.
//!
//! Which graphs cuDNN recognises is told by its own wrapper in C++ (NVIDIA/cudnn-frontend,
//! `node/scaled_dot_product_flash_attention.h`, the composite form for packed documents).
//!
//! Documents lie one behind the other, `[T, heads * D]`. Each array that does names the offsets of its
//! documents, in elements; lengths say how long they are. The size S of a graph is only the most that a
//! document may have, and its B the most documents, so that one graph serves many batches.
//!
//! Legend: B documents, S tokens of the longest at most, H query heads, K key-value heads, D head size.

use super::super::Heads;

/// The number format of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    Bf16,
    I32,
    Bool,
}

/// Where the numbers of an array are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// In the card's memory; with the array that says where each document begins.
    Memory(Option<Id>),
    /// Nowhere: it exists while a kernel runs.
    Passing,
    /// It is this one number.
    Number(f32),
}

/// Names an array.
pub(super) type Id = i64;

/// The arrays in memory, by the names under which cuDNN is given their addresses.
pub(super) mod id {
    use super::Id;

    pub(in super::super) const Q: Id = 1;
    pub(in super::super) const K: Id = 2;
    pub(in super::super) const V: Id = 3;
    pub(in super::super) const OUT: Id = 4;
    /// The log of the sum of the exponentials of each query's scores.
    pub(in super::super) const LOG_SUMS: Id = 5;
    pub(in super::super) const D_OUT: Id = 6;
    pub(in super::super) const D_Q: Id = 7;
    pub(in super::super) const D_K: Id = 8;
    pub(in super::super) const D_V: Id = 9;
    /// Lengths of the documents, for queries and for keys: two names, as the graph has two sizes.
    pub(in super::super) const QUERIES: Id = 10;
    pub(in super::super) const KEYS: Id = 11;
    /// Where documents begin in arrays of H * D, of K * D and of H elements a token.
    pub(in super::super) const OFFSETS_H: Id = 12;
    pub(in super::super) const OFFSETS_K: Id = 13;
    pub(in super::super) const OFFSETS_SUMS: Id = 14;
    /// Room that the gradients need: a number per query, queries' gradients in f32, and where there are fewer
    /// key-value heads than query heads, keys' and values' for each of the latter.
    pub(in super::super) const ROOM_SUMS: Id = 15;
    pub(in super::super) const ROOM_Q: Id = 16;
    pub(in super::super) const ROOM_K: Id = 17;
    pub(in super::super) const ROOM_V: Id = 18;
    /// Those of no interest to anybody else.
    pub(in super::super) const FIRST_FREE: Id = 100;
}

/// An array: of four dimensions, with the elements between two neighbours along each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) id: Id,
    pub(super) format: Format,
    pub(super) dims: [i64; 4],
    pub(super) strides: [i64; 4],
    pub(super) place: Place,
}

/// What is done to each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    Copy,
    Times,
    Plus,
    Minus,
    Over,
    Exp,
    Log,
    Less,
    AtLeast,
    And,
    /// The index along a dimension.
    Index(i64),
    /// `x` where the third is true, else `b`.
    Choose,
}

/// A step of a graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// `c = a b`, of which the first rows, columns and inner sizes count that lengths say, where there are any.
    Product {
        a: Id,
        b: Id,
        c: Id,
        rows: Option<Id>,
        columns: Option<Id>,
        inner: Option<Id>,
    },
    /// `y` of `x` and, as far as it is needed, `b` and `t`; computed in `format`.
    Each {
        what: Each,
        format: Format,
        x: Id,
        b: Option<Id>,
        t: Option<Id>,
        y: Id,
    },
    /// Sums along the dimensions in which `y` is smaller (along groups of heads too).
    Sum { x: Id, y: Id },
    /// The largest along them.
    Most { x: Id, y: Id },
    /// The same elements with other dimensions, in the order of their indices: turned, if strides say so.
    View { x: Id, y: Id },
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Forward,
    Backward,
}

/// The sizes of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) heads: Heads,
    /// Documents at most, B.
    pub(super) documents: usize,
    /// Tokens of a document at most, S.
    pub(super) tokens: usize,
}

/// Arrays and steps.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) arrays: Vec<Array>,
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    pub(super) fn new(way: Way, sizes: Sizes) -> Self {
        let mut maker = Maker::new(sizes);
        match way {
            Way::Forward => maker.forward(),
            Way::Backward => maker.backward(),
        }
        Self {
            arrays: maker.arrays,
            nodes: maker.nodes,
        }
    }
}

/// Makes graphs.
struct Maker {
    b: i64,
    s: i64,
    h: i64,
    k: i64,
    d: i64,
    arrays: Vec<Array>,
    nodes: Vec<Node>,
    next: Id,
}

impl Maker {
    fn new(sizes: Sizes) -> Self {
        let size = |size: usize| size as i64;
        Self {
            b: size(sizes.documents),
            s: size(sizes.tokens),
            h: size(sizes.heads.query),
            k: size(sizes.heads.key_value),
            d: size(sizes.heads.dim),
            arrays: Vec::new(),
            nodes: Vec::new(),
            next: id::FIRST_FREE,
        }
    }

    fn array(&mut self, array: Array) -> Id {
        let id = array.id;
        self.arrays.push(array);
        id
    }

    fn fresh(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    /// Rows of some heads of each token, `[B, heads, S, width]`.
    fn rows(&mut self, id: Id, format: Format, heads: i64, width: i64, offsets: Id) -> Id {
        self.array(Array {
            id,
            format,
            dims: [self.b, heads, self.s, width],
            strides: [self.s * heads * width, width, heads * width, 1],
            place: Place::Memory(Some(offsets)),
        })
    }

    /// The same with the last two dimensions swapped.
    fn columns(&mut self, id: Id, heads: i64, offsets: Id) -> Id {
        self.array(Array {
            id,
            format: Format::Bf16,
            dims: [self.b, heads, self.d, self.s],
            strides: [self.s * heads * self.d, self.d, 1, heads * self.d],
            place: Place::Memory(Some(offsets)),
        })
    }

    /// Lengths or offsets.
    fn numbers(&mut self, id: Id, count: i64) {
        self.array(Array {
            id,
            format: Format::I32,
            dims: [count, 1, 1, 1],
            strides: [1; 4],
            place: Place::Memory(None),
        });
    }

    fn number(&mut self, value: f32) -> Id {
        let id = self.fresh();
        self.array(Array {
            id,
            format: Format::F32,
            dims: [1; 4],
            strides: [1; 4],
            place: Place::Number(value),
        })
    }

    fn passing(&mut self, format: Format, dims: [i64; 4], strides: [i64; 4]) -> Id {
        let id = self.fresh();
        self.array(Array {
            id,
            format,
            dims,
            strides,
            place: Place::Passing,
        })
    }

    /// A number for each pair of a query and a key.
    fn square(&mut self, format: Format) -> Id {
        let (b, h, s) = (self.b, self.h, self.s);
        self.passing(format, [b, h, s, s], [h * s * s, s * s, s, 1])
    }

    /// A number for each query.
    fn column(&mut self) -> Id {
        let (b, h, s) = (self.b, self.h, self.s);
        self.passing(Format::F32, [b, h, s, 1], [h * s, s, 1, 1])
    }

    fn each(&mut self, what: Each, format: Format, x: Id, b: Option<Id>, y: Id) -> Id {
        self.nodes.push(Node::Each {
            what,
            format,
            x,
            b,
            t: None,
            y,
        });
        y
    }

    fn squares(&mut self, what: Each, x: Id, b: Option<Id>) -> Id {
        let y = self.square(Format::F32);
        self.each(what, Format::F32, x, b, y)
    }

    fn choose(&mut self, x: Id, otherwise: Id, where_: Id) -> Id {
        let y = self.square(Format::F32);
        self.nodes.push(Node::Each {
            what: Each::Choose,
            format: Format::F32,
            x,
            b: Some(otherwise),
            t: Some(where_),
            y,
        });
        y
    }

    /// The index of queries (2) or keys (3).
    fn index(&mut self, x: Id, dim: i64, format: Format) -> Id {
        let y = self.square(Format::I32);
        self.each(Each::Index(dim), format, x, None, y)
    }

    fn compare(&mut self, what: Each, x: Id, b: Id) -> Id {
        let y = self.square(Format::Bool);
        self.each(what, Format::Bool, x, Some(b), y)
    }

    /// Scores times their factor, with those behind a document's end far below all.
    fn scores(&mut self, factor: Id) -> Id {
        let scores = self.square(Format::F32);
        self.nodes.push(Node::Product {
            a: id::Q,
            b: id::K,
            c: scores,
            rows: Some(id::QUERIES),
            columns: Some(id::KEYS),
            inner: None,
        });
        let scaled = self.squares(Each::Times, scores, Some(factor));
        let key = self.index(scaled, 3, Format::I32);
        let key_is_there = self.compare(Each::Less, key, id::KEYS);
        let query = self.index(scaled, 2, Format::I32);
        let query_is_there = self.compare(Each::Less, query, id::QUERIES);
        let both = self.compare(Each::And, query_is_there, key_is_there);
        let nothing = self.number(f32::NEG_INFINITY);
        self.choose(scaled, nothing, both)
    }

    /// Scores of the keys up to each query; the others are far below all.
    fn causal(&mut self, scores: Id) -> Id {
        let key = self.index(scores, 3, Format::F32);
        let query = self.index(scores, 2, Format::F32);
        let seen = self.compare(Each::AtLeast, query, key);
        let nothing = self.number(f32::NEG_INFINITY);
        self.choose(scores, nothing, seen)
    }

    /// What both ways read.
    fn inputs(&mut self) -> Id {
        let (h, k, d) = (self.h, self.k, self.d);
        self.numbers(id::QUERIES, self.b);
        self.numbers(id::KEYS, self.b);
        self.numbers(id::OFFSETS_H, self.b + 1);
        self.numbers(id::OFFSETS_K, self.b + 1);
        self.numbers(id::OFFSETS_SUMS, self.b + 1);
        self.rows(id::Q, Format::Bf16, h, d, id::OFFSETS_H);
        self.columns(id::K, k, id::OFFSETS_K);
        self.number(1.0 / (d as f32).sqrt())
    }

    fn log_sums(&mut self, id: Id) -> Id {
        self.rows(id, Format::F32, self.h, 1, id::OFFSETS_SUMS)
    }

    fn forward(&mut self) {
        let (h, k, d) = (self.h, self.k, self.d);
        let factor = self.inputs();
        self.rows(id::V, Format::Bf16, k, d, id::OFFSETS_K);
        self.rows(id::OUT, Format::Bf16, h, d, id::OFFSETS_H);
        self.log_sums(id::LOG_SUMS);
        let scores = self.scores(factor);
        let scores = self.causal(scores);
        let most = self.column();
        self.nodes.push(Node::Most { x: scores, y: most });
        let below = self.squares(Each::Minus, scores, Some(most));
        let exps = self.squares(Each::Exp, below, None);
        let sum = self.column();
        self.nodes.push(Node::Sum { x: exps, y: sum });
        let log = self.column();
        self.each(Each::Log, Format::F32, sum, None, log);
        self.each(Each::Plus, Format::F32, most, Some(log), id::LOG_SUMS);
        let shares = self.square(Format::Bf16);
        self.each(Each::Over, Format::F32, exps, Some(sum), shares);
        self.nodes.push(Node::Product {
            a: shares,
            b: id::V,
            c: id::OUT,
            rows: Some(id::QUERIES),
            columns: None,
            inner: Some(id::KEYS),
        });
    }

    /// Rows `[B, H, S, S]` with the last two dimensions swapped.
    fn turned(&mut self, x: Id) -> Id {
        let (b, h, s) = (self.b, self.h, self.s);
        let y = self.passing(Format::Bf16, [b, h, s, s], [h * s * s, s * s, 1, s]);
        self.nodes.push(Node::View { x, y });
        y
    }

    fn backward(&mut self) {
        let (b, h, k, s, d) = (self.b, self.h, self.k, self.s, self.d);
        let factor = self.inputs();
        self.columns(id::V, k, id::OFFSETS_K);
        self.rows(id::OUT, Format::Bf16, h, d, id::OFFSETS_H);
        self.log_sums(id::LOG_SUMS);
        self.rows(id::D_OUT, Format::Bf16, h, d, id::OFFSETS_H);
        self.rows(id::D_Q, Format::Bf16, h, d, id::OFFSETS_H);
        self.rows(id::D_K, Format::Bf16, k, d, id::OFFSETS_K);
        self.rows(id::D_V, Format::Bf16, k, d, id::OFFSETS_K);
        self.log_sums(id::ROOM_SUMS);
        self.rows(id::ROOM_Q, Format::F32, h, d, id::OFFSETS_H);

        // What all gradients of a query's shares have in common: the sum of out * d_out.
        let products = self.passing(Format::F32, [b, h, s, d], [h * s * d, s * d, h * d, 1]);
        self.each(Each::Times, Format::F32, id::D_OUT, Some(id::OUT), products);
        let common = self.column();
        self.nodes.push(Node::Sum {
            x: products,
            y: common,
        });
        let one = self.number(1.0);
        self.each(Each::Times, Format::F32, common, Some(one), id::ROOM_SUMS);

        let scores = self.scores(factor);
        let below = self.squares(Each::Minus, scores, Some(id::LOG_SUMS));
        let below = self.causal(below);
        let shares = self.squares(Each::Exp, below, None);
        self.gradient_of_keys(shares, id::D_OUT, id::ROOM_V, id::D_V);

        let d_shares = self.square(Format::F32);
        self.nodes.push(Node::Product {
            a: id::D_OUT,
            b: id::V,
            c: d_shares,
            rows: Some(id::QUERIES),
            columns: Some(id::KEYS),
            inner: None,
        });
        let apart = self.squares(Each::Minus, d_shares, Some(id::ROOM_SUMS));
        let d_scores = self.squares(Each::Times, apart, Some(shares));
        let d_scores = self.squares(Each::Times, d_scores, Some(factor));

        let keys = self.array(Array {
            id: self.next + 1,
            format: Format::F32,
            dims: [b, k, s, d],
            strides: [s * k * d, d, k * d, 1],
            place: Place::Passing,
        });
        self.next = keys;
        self.nodes.push(Node::View { x: id::K, y: keys });
        self.nodes.push(Node::Product {
            a: d_scores,
            b: keys,
            c: id::ROOM_Q,
            rows: Some(id::QUERIES),
            columns: None,
            inner: Some(id::KEYS),
        });
        self.each(Each::Copy, Format::F32, id::ROOM_Q, None, id::D_Q);

        self.gradient_of_keys(d_scores, id::Q, id::ROOM_K, id::D_K);
    }

    /// What keys or values get from each query, summed over the heads of a group.
    fn gradient_of_keys(&mut self, squares: Id, rows: Id, room: Id, to: Id) {
        let grouped = self.h != self.k;
        let turned = self.turned(squares);
        self.nodes.push(Node::Product {
            a: turned,
            b: rows,
            c: if grouped { room } else { to },
            rows: Some(id::KEYS),
            columns: None,
            inner: Some(id::QUERIES),
        });
        if grouped {
            // With the offsets of arrays of K heads: cuDNN multiplies them by H / K here.
            self.rows(room, Format::Bf16, self.h, self.d, id::OFFSETS_K);
            self.nodes.push(Node::Sum { x: room, y: to });
        }
    }
}

#[cfg(test)]
mod tests;
