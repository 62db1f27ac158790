//! Loss and gradient of one optimizer step, summed over its micro-batches in f32.
//!
//! A micro-batch's graph is gone before the next one is computed. With [`Recompute::Blocks`] there
//! is never more than one layer's graph: the forward pass keeps the input of each layer and what its
//! attention gave, and the backward pass computes layer by layer anew what else its gradients need, with
//! the same operations in the same order, and gives away each layer's gradients before the next. Loss and
//! gradients have the same bits either way.

use burn::module::{Module, ParamId};
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use model::decoder::Decoder;
use model::lora::Dropout;
use model::ops;
use model::parameters::{Parameter, ParameterValues};

use crate::batch::MicroBatch;
use crate::carrier::{Carrier, Landed};
use crate::forecast::Computer;
use crate::numbers::{Numbers, Squares, on_host};
use crate::settings::{Placement, Recompute};

/// What training changes: what is kept for each of these parameters is in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) parameters: Vec<Entry>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) id: ParamId,
}

impl Entry {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Layout {
    pub(crate) fn of(decoder: &Decoder) -> Self {
        let entry = |parameter: Parameter| Entry {
            shape: parameter.shape(),
            name: parameter.name,
            id: parameter.id,
        };
        Self {
            parameters: decoder
                .trained_parameters()
                .into_iter()
                .map(entry)
                .collect(),
        }
    }

    /// The number of elements of each parameter, in order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.parameters.iter().map(Entry::elements)
    }
}

/// Where the gradients of a step are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gather {
    /// In one place, where the optimizer finds them.
    In(Placement),
    /// In host memory, to which the gradients of each micro-batch are taken.
    HostByLayers,
}

/// How many gradients may wait for host memory where those of each micro-batch are taken there:
/// about those of a layer, so that a slow bus fills no device.
const WAITING: usize = 12;

/// What the micro-batches of a step have added up to.
pub(crate) struct Sums {
    /// The loss: the weighted mean over the trained tokens, once all micro-batches are in.
    pub(crate) loss: f64,
    /// The gradient of each parameter, in the order of the layout; none until there is one. Those
    /// that are on their way to host memory are none, too, until [`Sums::end`].
    pub(crate) gradients: Vec<Numbers>,
    carrier: Option<Carrier>,
    /// The memory that carried sums lie in, before and after.
    landed: Vec<Landed>,
    /// Whether the micro-batch that is added is the last one of its step.
    last: bool,
}

impl Sums {
    /// Nothing yet. `landed` is what [`Sums::into_landed`] gave of an earlier step, if there was
    /// one: its memory is used again.
    pub(crate) fn new(layout: &Layout, gather: Gather, landed: Vec<Landed>) -> Self {
        let count = layout.parameters.len();
        let (placement, carrier) = match gather {
            Gather::In(placement) => (placement, None),
            Gather::HostByLayers => {
                let mut landed = landed;
                landed.resize(count, Landed::none());
                (Placement::Device, Some(Carrier::start(landed, WAITING)))
            }
        };
        Self {
            loss: 0.0,
            gradients: vec![Numbers::none(placement); count],
            carrier,
            landed: Vec::new(),
            last: false,
        }
    }

    /// Goes on from what an earlier process had added up: the loss, and the gradients of the
    /// parameters at some places. `device` is that of the model.
    pub(crate) fn go_on_from(
        &mut self,
        loss: f64,
        sums: impl IntoIterator<Item = (usize, Vec<f32>)>,
        device: &Device,
    ) {
        self.loss = loss;
        for (place, sum) in sums {
            let count = sum.len();
            let sum = TensorData::new(sum, [count]);
            self.put(place, Tensor::<1>::from_data(sum, (device, DType::F32)));
        }
    }

    /// Adds loss and gradients of one micro-batch, the last one of the step or not.
    pub(crate) fn add(
        &mut self,
        decoder: &Decoder,
        batch: &MicroBatch,
        dropout: Option<&Dropout>,
        recompute: Recompute,
        last: bool,
    ) {
        self.last = last;
        match recompute {
            Recompute::None => self.add_at_once(decoder, batch, dropout),
            Recompute::Blocks => self.add_by_layers(decoder, batch, dropout),
        }
    }

    /// Waits for what is on its way. Nothing can be added any more.
    pub(crate) fn end(&mut self) {
        let Some(carrier) = self.carrier.take() else {
            return;
        };
        self.landed = carrier.end();
        for (sum, landed) in self.gradients.iter_mut().zip(&mut self.landed) {
            if landed.begun {
                *sum = Numbers::Host(std::mem::replace(&mut landed.sum, on_host(Vec::new())));
            }
        }
    }

    /// The memory of sums that were taken to the host, for the next step.
    pub(crate) fn into_landed(mut self) -> Vec<Landed> {
        for (sum, landed) in self.gradients.into_iter().zip(&mut self.landed) {
            if let (Numbers::Host(memory), true) = (sum, landed.begun) {
                landed.sum = memory;
            }
        }
        self.landed
    }

    fn add_at_once(&mut self, decoder: &Decoder, batch: &MicroBatch, dropout: Option<&Dropout>) {
        let hidden = decoder.hidden_with(&batch.packed, dropout); // [T, d]
        let loss = loss(decoder, hidden, batch);
        let mut gradients = loss.backward();
        self.loss += f64::from(loss.into_scalar::<f32>());
        self.take(&decoder.trained_parameters(), 0, &mut gradients);
    }

    fn add_by_layers(&mut self, decoder: &Decoder, batch: &MicroBatch, dropout: Option<&Dropout>) {
        let (inputs, mut kept) = {
            // Without a graph.
            let plain = decoder.valid();
            let (mut inputs, mut kept) = (vec![plain.embedded(&batch.packed)], Vec::new());
            for layer in 0..plain.layers() {
                let input = inputs[layer].clone();
                let (output, of_layer) = plain.layer_keeping(layer, input, &batch.packed, dropout);
                inputs.push(output);
                kept.push(of_layer);
            }
            (inputs, kept)
        };
        let parameters = decoder.trained_parameters();
        let by_layer = Parts::of(&parameters, decoder.layers());
        let mut inputs = inputs.into_iter().rev();
        let mut next = || Tensor::from_inner(inputs.next().expect("one per layer")).require_grad();

        let input = next();
        let loss = loss(decoder, decoder.normed(input.clone()), batch);
        let mut gradients = loss.backward();
        self.loss += f64::from(loss.into_scalar::<f32>());
        let mut incoming = of(&input, &mut gradients);
        // The gradient of a tied embedding is the sum of its two uses, made before it is added to
        // those of other micro-batches: so it is without recomputation.
        let mut tied = None;
        for place in by_layer.after.clone() {
            tied = by_layer
                .is_embedding(place)
                .then(|| matrix_gradient(&parameters[place], &mut gradients))
                .flatten()
                .or(tied);
            self.take(&parameters[place..=place], place, &mut gradients);
        }
        drop(gradients);
        for layer in (0..decoder.layers()).rev() {
            let (input, kept) = (next(), kept.pop().expect("one per layer"));
            let packed = &batch.packed;
            let mut gradients =
                decoder.layer_gradients(layer, input.clone(), packed, dropout, kept, incoming);
            incoming = of(&input, &mut gradients);
            let places = by_layer.layers[layer].clone();
            self.take(&parameters[places.clone()], places.start, &mut gradients);
        }
        let Some(place) = by_layer.embedding else {
            return;
        };
        let mut gradients = decoder.embedding_gradients(&batch.packed, incoming);
        let gradient = matrix_gradient(&parameters[place], &mut gradients);
        let sum = match (tied, gradient) {
            (Some(tied), Some(gradient)) => Some(tied + gradient),
            (one, other) => one.or(other),
        };
        if let Some(sum) = sum {
            self.put(place, sum);
        }
    }

    /// Adds a gradient of the parameter at `place`.
    fn put<const D: usize>(&mut self, place: usize, gradient: Tensor<D>) {
        match &self.carrier {
            Some(carrier) => {
                let count = gradient.shape().num_elements();
                carrier.take(place, gradient.reshape([count]), self.last);
            }
            None => self.gradients[place].add(gradient),
        }
    }

    /// Moves the gradients of `parameters`, the first of which is at `place`, into the sums.
    fn take(&mut self, parameters: &[Parameter], place: usize, gradients: &mut Gradients) {
        for (place, parameter) in (place..).zip(parameters) {
            match &parameter.values {
                ParameterValues::Vector(tensor) => {
                    if let Some(gradient) = tensor.grad_remove(gradients) {
                        self.put(place, gradient);
                    }
                }
                ParameterValues::Matrix(tensor) => {
                    if let Some(gradient) = tensor.grad_remove(gradients) {
                        self.put(place, gradient);
                    }
                }
            }
        }
    }

    /// The sums of the squares of each gradient's stretches, in order. Stretches of fixed length are summed on
    /// their own, so that the result does not depend on the number of threads.
    pub(crate) fn squares(&self) -> Vec<Vec<f64>> {
        let gradients = self.gradients.iter().enumerate();
        let squares = gradients.map(|(place, gradient)| {
            // Those of carried sums were made on the way.
            let landed = self.landed.get(place);
            let made = landed.filter(|landed| landed.begun && !landed.squares.is_empty());
            match made {
                Some(landed) => Squares::Host(landed.squares.clone()),
                None => gradient.squares(),
            }
        });
        Squares::all(squares.collect())
    }
}

/// The norm of all gradients together, whose [`Sums::squares`] these are: added in order, in f64.
pub(crate) fn norm(squares: &[Vec<f64>]) -> f64 {
    let squares = squares.iter().flatten();
    squares.fold(0.0, |sum: f64, square| sum + square).sqrt()
}

/// The loss of a micro-batch: its share of that of the step.
fn loss(decoder: &Decoder, hidden: Tensor<2>, batch: &MicroBatch) -> Tensor<1> {
    let head = decoder.head_weight();
    let chunk = logit_rows(head.dims()[0], Computer::of(&head.device()));
    ops::cross_entropy(hidden, head, &batch.targets, &batch.weights, chunk)
}

fn of(input: &Tensor<2>, gradients: &mut Gradients) -> Tensor<2> {
    let gradient = input.grad_remove(gradients);
    gradient.expect("the loss depends on what comes out of each layer")
}

fn matrix_gradient(parameter: &Parameter, gradients: &mut Gradients) -> Option<Tensor<2>> {
    match &parameter.values {
        ParameterValues::Matrix(tensor) => tensor.grad_remove(gradients),
        ParameterValues::Vector(_) => None,
    }
}

/// Where the parameters of each layer stand in a list of parameters.
struct Parts {
    embedding: Option<usize>,
    layers: Vec<std::ops::Range<usize>>,
    /// Those that are used after the last layer; a tied embedding is one of them.
    after: Vec<usize>,
}

impl Parts {
    fn of(parameters: &[Parameter], layers: usize) -> Self {
        let mut parts = Self {
            embedding: None,
            layers: vec![0..0; layers],
            after: Vec::new(),
        };
        let layer_of = |name: &str| -> Option<usize> {
            let rest = name.split("model.layers.").nth(1)?;
            rest.split('.').next()?.parse().ok()
        };
        for (place, parameter) in parameters.iter().enumerate() {
            match layer_of(&parameter.name) {
                Some(layer) if parts.layers[layer].is_empty() => {
                    parts.layers[layer] = place..place + 1;
                }
                Some(layer) => parts.layers[layer].end = place + 1,
                None => {
                    if parameter.name.ends_with("embed_tokens.weight") {
                        parts.embedding = Some(place);
                    }
                    parts.after.push(place);
                }
            }
        }
        parts
    }

    fn is_embedding(&self, place: usize) -> bool {
        self.embedding == Some(place)
    }
}

/// How many rows of logits are held at once: 64 MiB of them, and 512 MiB on a card, which reads the
/// whole projection for each such piece; but enough rows for a product.
pub(crate) fn logit_rows(vocabulary: usize, computer: Computer) -> usize {
    let logits = match computer {
        Computer::Cpu => 1 << 24,
        Computer::Card => 1 << 27,
    };
    (logits / vocabulary).clamp(64, 4096)
}
