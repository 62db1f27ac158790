//! The graphs, evaluated by the book on a few small documents, against attention as it is defined.

use std::collections::BTreeMap;

use super::super::documents::Documents;
use super::*;

/// Numbers of arrays: those in memory as they lie there, the others by index.
struct Evaluated {
    graph: Graph,
    lengths: Vec<usize>,
    values: BTreeMap<Id, Vec<f64>>,
}

impl Evaluated {
    fn new(graph: Graph, documents: &Documents, sizes: Sizes, inputs: &[(Id, &[f64])]) -> Self {
        let [lengths, of_queries, of_keys, of_sums] = documents
            .said(sizes)
            .map(|numbers| numbers.into_iter().map(f64::from).collect::<Vec<f64>>());
        let tokens: f64 = lengths.iter().sum();
        let mut values = BTreeMap::from([
            (id::QUERIES, lengths.clone()),
            (id::KEYS, lengths.clone()),
            (id::OFFSETS_H, of_queries),
            (id::OFFSETS_K, of_keys),
            (id::OFFSETS_SUMS, of_sums),
        ]);
        for (id, numbers) in inputs {
            values.insert(*id, numbers.to_vec());
        }
        for array in &graph.arrays {
            let room = match array.place {
                Place::Memory(_) => {
                    tokens as usize * (array.dims[1] * sizes.heads.dim as i64) as usize
                }
                _ => array.dims.iter().product::<i64>() as usize,
            };
            values
                .entry(array.id)
                .or_insert_with(|| vec![f64::NAN; room]);
        }
        let lengths = lengths.iter().map(|length| *length as usize).collect();
        let mut made = Self {
            graph,
            lengths,
            values,
        };
        for node in made.graph.nodes.clone() {
            made.step(&node);
        }
        made
    }

    fn array(&self, id: Id) -> Array {
        let found = self.graph.arrays.iter().find(|array| array.id == id);
        found.expect("the array is described").clone()
    }

    /// Where an element lies; None behind the end of its document.
    fn place(&self, array: &Array, at: [i64; 4], longest: i64) -> Option<usize> {
        let inside: i64 = (1..4).map(|dim| at[dim] * array.strides[dim]).sum();
        let place = match array.place {
            Place::Memory(Some(offsets)) => {
                let token = at[if array.dims[2] == longest { 2 } else { 3 }];
                if token as usize >= self.lengths[at[0] as usize] {
                    return None;
                }
                // Of arrays with more heads than their offsets are for, cuDNN multiplies these.
                let heads = |id| self.array(id).dims[1];
                let more = match offsets {
                    id::OFFSETS_K => array.dims[1] / heads(id::K),
                    _ => 1,
                };
                self.values[&offsets][at[0] as usize] as i64 * more + inside
            }
            Place::Memory(None) => at[0] * array.strides[0] + inside,
            Place::Number(_) => 0,
            Place::Passing => (0..4).fold(0, |sum, dim| sum * array.dims[dim] + at[dim]),
        };
        Some(place as usize)
    }

    /// An element, of an array that is repeated along the dimensions in which it has one; 0 behind the end.
    fn get(&self, id: Id, at: [i64; 4]) -> f64 {
        let array = self.array(id);
        if let Place::Number(value) = array.place {
            return f64::from(value);
        }
        let longest = self.array(id::Q).dims[2];
        let mut own = at;
        for dim in 0..4 {
            own[dim] = at[dim].min(array.dims[dim] - 1);
        }
        let place = self.place(&array, own, longest);
        place.map_or(0.0, |place| self.values[&id][place])
    }

    fn put(&mut self, id: Id, at: [i64; 4], value: f64) {
        let longest = self.array(id::Q).dims[2];
        if let Some(place) = self.place(&self.array(id), at, longest) {
            self.values.get_mut(&id).expect("it is there")[place] = value;
        }
    }

    /// The first of so many that count in a document.
    fn counted(&self, size: i64, said: Option<Id>, document: i64) -> i64 {
        said.map_or(size, |id| {
            size.min(self.get(id, [document, 0, 0, 0]) as i64)
        })
    }

    fn step(&mut self, node: &Node) {
        match *node {
            Node::Product {
                a,
                b,
                c,
                rows,
                columns,
                inner,
            } => {
                let (of_a, of_b, of_c) = (self.array(a), self.array(b), self.array(c));
                let group = of_c.dims[1] / of_b.dims[1];
                for [i0, i1, i, j] in indices(of_c.dims) {
                    let inside = i < self.counted(of_c.dims[2], rows, i0)
                        && j < self.counted(of_c.dims[3], columns, i0);
                    let inner = self.counted(of_a.dims[3], inner, i0);
                    let sum = (0..inner)
                        .map(|k| self.get(a, [i0, i1, i, k]) * self.get(b, [i0, i1 / group, k, j]))
                        .sum();
                    self.put(c, [i0, i1, i, j], if inside { sum } else { f64::NAN });
                }
            }
            Node::Each {
                what, x, b, t, y, ..
            } => {
                for at in indices(self.array(y).dims) {
                    let value = self.get(x, at);
                    let other = b.map_or(0.0, |id| self.get(id, at));
                    let truth = |yes: bool| f64::from(u8::from(yes));
                    let value = match what {
                        Each::Copy => value,
                        Each::Times => value * other,
                        Each::Plus => value + other,
                        Each::Minus => value - other,
                        Each::Over => value / other,
                        Each::Exp => value.exp(),
                        Each::Log => value.ln(),
                        Each::Less => truth(value < other),
                        Each::AtLeast => truth(value >= other),
                        Each::And => truth(value != 0.0 && other != 0.0),
                        Each::Index(dim) => at[dim as usize] as f64,
                        Each::Choose => match t.map(|id| self.get(id, at)) {
                            Some(chosen) if chosen != 0.0 => value,
                            _ => other,
                        },
                    };
                    self.put(y, at, value);
                }
            }
            Node::Sum { x, y } => self.reduce(x, y, 0.0, |sum, value| sum + value),
            Node::Most { x, y } => self.reduce(x, y, f64::NEG_INFINITY, f64::max),
            Node::View { x, y } => {
                let (of_x, of_y) = (self.array(x), self.array(y));
                for at in indices(of_y.dims) {
                    // Turned, where strides or sizes say that the last two are swapped.
                    let swapped = of_x.dims != of_y.dims || of_y.strides[2] < of_y.strides[3];
                    let [i, j, k, l] = at;
                    let from = if swapped { [i, j, l, k] } else { at };
                    let value = self.get(x, from);
                    self.put(y, at, value);
                }
            }
        }
    }

    fn reduce(&mut self, x: Id, y: Id, start: f64, f: impl Fn(f64, f64) -> f64) {
        let (of_x, of_y) = (self.array(x), self.array(y));
        let group = of_x.dims[1] / of_y.dims[1];
        for [i0, i1, i, j] in indices(of_y.dims) {
            let columns = if of_y.dims[3] == of_x.dims[3] {
                j..j + 1
            } else {
                0..of_x.dims[3]
            };
            let mut sum = start;
            for head in i1 * group..(i1 + 1) * group {
                for column in columns.clone() {
                    sum = f(sum, self.get(x, [i0, head, i, column]));
                }
            }
            self.put(y, [i0, i1, i, j], sum);
        }
    }
}

fn indices(dims: [i64; 4]) -> impl Iterator<Item = [i64; 4]> {
    let [a, b, c, d] = dims;
    (0..a * b * c * d).map(move |at| [at / (b * c * d), at / (c * d) % b, at / d % c, at % d])
}

/// Attention of documents as it is defined: the results, and the log-sums.
fn attention(lengths: &[usize], heads: Heads, [q, k, v]: [&[f64]; 3]) -> (Vec<f64>, Vec<f64>) {
    let Heads {
        query,
        key_value,
        dim,
    } = heads;
    let (mut out, mut sums) = (vec![0.0; q.len()], Vec::new());
    let mut first = 0;
    for length in lengths {
        for token in first..first + length {
            for head in 0..query {
                let kv = head * key_value / query;
                let row = |x: &[f64], token: usize, heads: usize, head: usize| {
                    x[(token * heads + head) * dim..][..dim].to_vec()
                };
                let of_q = row(q, token, query, head);
                let scores = (first..=token).map(|key| {
                    let of_k = row(k, key, key_value, kv);
                    let sum: f64 = of_q.iter().zip(&of_k).map(|(a, b)| a * b).sum();
                    (sum / (dim as f64).sqrt()).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                sums.push(sum.ln());
                for (score, key) in scores.iter().zip(first..) {
                    let of_v = row(v, key, key_value, kv);
                    for (at, value) in of_v.iter().enumerate() {
                        out[(token * query + head) * dim + at] += score / sum * value;
                    }
                }
            }
        }
        first += length;
    }
    (out, sums)
}

/// Numbers between -1 and 1 that look random.
fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mix = |at: u64| (at + seed * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (1..=count as u64)
        .map(|at| mix(at) as f64 / (1 << 23) as f64 - 1.0)
        .collect()
}

fn apart(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most: f64, (a, b)| match (a - b).is_nan() {
        true => f64::INFINITY,
        false => most.max((a - b).abs()),
    })
}

#[test]
fn the_graphs_mean_attention_and_its_gradients() {
    for (lengths, query, key_value) in [(&[3, 2][..], 2, 2), (&[1, 4, 2], 4, 2), (&[5], 3, 1)] {
        let heads = Heads {
            query,
            key_value,
            dim: 4,
        };
        let documents = Documents::new(heads, lengths);
        // The longest is taken as it is: interpreting 128 tokens takes long and shows no more.
        let sizes = Sizes {
            tokens: 6,
            ..documents.sizes()
        };
        let tokens: usize = lengths.iter().sum();
        let (of_q, of_k) = (tokens * query * heads.dim, tokens * key_value * heads.dim);
        let (q, k, v, dy) = (
            noise(of_q, 1),
            noise(of_k, 2),
            noise(of_k, 3),
            noise(of_q, 4),
        );
        let inputs: [(Id, &[f64]); 3] = [(id::Q, &q), (id::K, &k), (id::V, &v)];

        let forward = Graph::new(Way::Forward, sizes);
        let found = Evaluated::new(forward, &documents, sizes, &inputs);
        let (out, sums) = attention(lengths, heads, [&q, &k, &v]);
        assert!(apart(&found.values[&id::OUT], &out) < 1e-6, "{lengths:?}");
        assert!(apart(&found.values[&id::LOG_SUMS][..sums.len()], &sums) < 1e-6);

        let mut inputs = inputs.to_vec();
        inputs.extend([
            (id::OUT, out.as_slice()),
            (id::LOG_SUMS, sums.as_slice()),
            (id::D_OUT, dy.as_slice()),
        ]);
        let backward = Graph::new(Way::Backward, sizes);
        let found = Evaluated::new(backward, &documents, sizes, &inputs);
        for (which, gradient) in [id::D_Q, id::D_K, id::D_V].into_iter().enumerate() {
            let mut tensors = [q.clone(), k.clone(), v.clone()];
            let loss = |tensors: &[Vec<f64>; 3]| -> f64 {
                let [q, k, v] = tensors;
                let (out, _) = attention(lengths, heads, [q, k, v]);
                out.iter().zip(&dy).map(|(a, b)| a * b).sum()
            };
            let slopes: Vec<f64> = (0..tensors[which].len())
                .map(|at| {
                    let [up, down] = [1e-4, -2e-4].map(|step| {
                        tensors[which][at] += step;
                        loss(&tensors)
                    });
                    tensors[which][at] += 1e-4;
                    (up - down) / 2e-4
                })
                .collect();
            let apart = apart(&found.values[&gradient], &slopes);
            assert!(apart < 1e-5, "{gradient} of {lengths:?}: {apart}");
        }
    }
}
