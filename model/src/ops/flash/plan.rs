//! A [`Graph`] as cuDNN's descriptors, and the plan that cuDNN makes of it.

use std::ffi::c_void;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

use super::descriptor::{Descriptor, said};
use super::graph::{Array, Each, Format, Graph, Id, Node, Place};

/// Addresses are multiples of this, in bytes.
pub(super) const ALIGNMENT: usize = 16;

/// Whose plans: a card that is there, or one that is only described (NVIDIA's way to plan without one).
pub(super) enum Card {
    Here(sys::cudnnHandle_t),
    #[cfg(test)]
    Described(String),
}

fn data_type(format: Format) -> sys::cudnnDataType_t {
    use sys::cudnnDataType_t as Data;
    match format {
        Format::F32 => Data::CUDNN_DATA_FLOAT,
        Format::Bf16 => Data::CUDNN_DATA_BFLOAT16,
        Format::I32 => Data::CUDNN_DATA_INT32,
        Format::Bool => Data::CUDNN_DATA_BOOLEAN,
    }
}

fn mode(what: Each) -> sys::cudnnPointwiseMode_t {
    use sys::cudnnPointwiseMode_t as Mode;
    match what {
        Each::Copy => Mode::CUDNN_POINTWISE_IDENTITY,
        Each::Times => Mode::CUDNN_POINTWISE_MUL,
        Each::Plus => Mode::CUDNN_POINTWISE_ADD,
        Each::Minus => Mode::CUDNN_POINTWISE_SUB,
        Each::Over => Mode::CUDNN_POINTWISE_DIV,
        Each::Exp => Mode::CUDNN_POINTWISE_EXP,
        Each::Log => Mode::CUDNN_POINTWISE_LOG,
        Each::Less => Mode::CUDNN_POINTWISE_CMP_LT,
        Each::AtLeast => Mode::CUDNN_POINTWISE_CMP_GE,
        Each::And => Mode::CUDNN_POINTWISE_LOGICAL_AND,
        Each::Index(_) => Mode::CUDNN_POINTWISE_GEN_INDEX,
        Each::Choose => Mode::CUDNN_POINTWISE_BINARY_SELECT,
    }
}

/// The arrays of a graph as descriptors.
struct Arrays<'a> {
    arrays: &'a [Array],
    made: Vec<(Id, Descriptor)>,
}

impl Arrays<'_> {
    fn new(arrays: &[Array]) -> Result<Arrays<'_>, String> {
        let mut all = Arrays {
            arrays,
            made: Vec::with_capacity(arrays.len()),
        };
        // What others name comes first.
        let (plain, others): (Vec<&Array>, Vec<&Array>) = arrays
            .iter()
            .partition(|array| !matches!(array.place, Place::Memory(Some(_))));
        for array in plain.into_iter().chain(others) {
            let made = all.describe(array)?;
            all.made.push((array.id, made));
        }
        Ok(all)
    }

    fn describe(&self, array: &Array) -> Result<Descriptor, String> {
        let flag = |on: bool| [on];
        let mut made = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .set(
                Name::CUDNN_ATTR_TENSOR_DATA_TYPE,
                Type::CUDNN_TYPE_DATA_TYPE,
                &[data_type(array.format)],
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_DIMENSIONS,
                Type::CUDNN_TYPE_INT64,
                &array.dims,
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_STRIDES,
                Type::CUDNN_TYPE_INT64,
                &array.strides,
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_UNIQUE_ID,
                Type::CUDNN_TYPE_INT64,
                &[array.id],
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
                Type::CUDNN_TYPE_INT64,
                &[ALIGNMENT as i64],
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL,
                Type::CUDNN_TYPE_BOOLEAN,
                &flag(array.place == Place::Passing),
            )?
            .set(
                Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE,
                Type::CUDNN_TYPE_BOOLEAN,
                &flag(matches!(array.place, Place::Number(_))),
            )?;
        if let Place::Memory(Some(offsets)) = array.place {
            made = made.set_descriptor(
                Name::CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC,
                self.get(offsets)?,
            )?;
        }
        made.finished()
    }

    fn get(&self, id: Id) -> Result<&Descriptor, String> {
        let found = self.made.iter().find(|(known, _)| *known == id);
        let known = self.arrays.iter().any(|array| array.id == id);
        found.map(|(_, made)| made).ok_or_else(|| match known {
            true => format!("array {id} is named before it is described"),
            false => format!("a graph without the array {id}"),
        })
    }

    fn step(&self, node: &Node) -> Result<Descriptor, String> {
        match *node {
            Node::Product {
                a,
                b,
                c,
                rows,
                columns,
                inner,
            } => {
                let how = Descriptor::new(Kind::CUDNN_BACKEND_MATMUL_DESCRIPTOR)?
                    .set(
                        Name::CUDNN_ATTR_MATMUL_COMP_TYPE,
                        Type::CUDNN_TYPE_DATA_TYPE,
                        &[data_type(Format::F32)],
                    )?
                    .finished()?;
                let mut made = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)?;
                made = made.set_descriptor(Name::CUDNN_ATTR_OPERATION_MATMUL_DESC, &how)?;
                let factors = [
                    (Name::CUDNN_ATTR_OPERATION_MATMUL_ADESC, Some(a)),
                    (Name::CUDNN_ATTR_OPERATION_MATMUL_BDESC, Some(b)),
                    (Name::CUDNN_ATTR_OPERATION_MATMUL_CDESC, Some(c)),
                    (Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, rows),
                    (
                        Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
                        columns,
                    ),
                    (
                        Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC,
                        inner,
                    ),
                ];
                self.named(made, &factors)
            }
            Node::Each {
                what,
                format,
                x,
                b,
                t,
                y,
            } => {
                let mut how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
                    .set(
                        Name::CUDNN_ATTR_POINTWISE_MODE,
                        Type::CUDNN_TYPE_POINTWISE_MODE,
                        &[mode(what)],
                    )?
                    .set(
                        Name::CUDNN_ATTR_POINTWISE_MATH_PREC,
                        Type::CUDNN_TYPE_DATA_TYPE,
                        &[data_type(format)],
                    )?;
                if let Each::Index(dim) = what {
                    how = how.set(
                        Name::CUDNN_ATTR_POINTWISE_AXIS,
                        Type::CUDNN_TYPE_INT64,
                        &[dim],
                    )?;
                }
                let how = how.finished()?;
                let made = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
                    .set_descriptor(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &how)?;
                let arrays = [
                    (Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, Some(x)),
                    (Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b),
                    (Name::CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t),
                    (Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, Some(y)),
                ];
                self.named(made, &arrays)
            }
            Node::Sum { x, y } => {
                self.reduced(sys::cudnnReduceTensorOp_t::CUDNN_REDUCE_TENSOR_ADD, x, y)
            }
            Node::Most { x, y } => {
                self.reduced(sys::cudnnReduceTensorOp_t::CUDNN_REDUCE_TENSOR_MAX, x, y)
            }
            Node::View { x, y } => {
                let made = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)?;
                let arrays = [
                    (Name::CUDNN_ATTR_OPERATION_RESHAPE_XDESC, Some(x)),
                    (Name::CUDNN_ATTR_OPERATION_RESHAPE_YDESC, Some(y)),
                ];
                self.named(made, &arrays)
            }
        }
    }

    fn reduced(
        &self,
        what: sys::cudnnReduceTensorOp_t,
        x: Id,
        y: Id,
    ) -> Result<Descriptor, String> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?
            .set(
                Name::CUDNN_ATTR_REDUCTION_COMP_TYPE,
                Type::CUDNN_TYPE_DATA_TYPE,
                &[data_type(Format::F32)],
            )?
            .set(
                Name::CUDNN_ATTR_REDUCTION_OPERATOR,
                Type::CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
                &[what],
            )?
            .finished()?;
        let made = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?
            .set_descriptor(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &how)?;
        let arrays = [
            (Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, Some(x)),
            (Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, Some(y)),
        ];
        self.named(made, &arrays)
    }

    fn named(
        &self,
        mut made: Descriptor,
        arrays: &[(Name, Option<Id>)],
    ) -> Result<Descriptor, String> {
        for (name, id) in arrays {
            if let Some(id) = id {
                made = made.set_descriptor(*name, self.get(*id)?)?;
            }
        }
        made.finished()
    }
}

/// What computes a graph on a card.
pub(super) struct Plan {
    /// Bytes that it works in.
    pub(super) workspace: usize,
    plan: Descriptor,
    /// The graph's numbers, which cuDNN asks for by address at each run.
    numbers: Vec<(Id, Box<f32>)>,
    /// cuDNN holds on to what a plan was made of by itself; they are kept all the same, as its own
    /// wrapper in C++ does.
    _graph: Descriptor,
}

/// How cuDNN would compute a graph, the best first.
fn choices(card: &Card, graph: &Graph) -> Result<(Descriptor, Vec<Descriptor>), String> {
    let arrays = Arrays::new(&graph.arrays)?;
    let steps: Vec<Descriptor> = graph
        .nodes
        .iter()
        .map(|node| arrays.step(node))
        .collect::<Result<_, _>>()?;
    let whole = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
    let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
    let (whole, heuristics) = match card {
        Card::Here(handle) => {
            let (name, of) = (
                Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE,
                Type::CUDNN_TYPE_HANDLE,
            );
            (whole.set(name, of, &[*handle])?, heuristics)
        }
        #[cfg(test)]
        Card::Described(properties) => {
            let properties = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?
                .set(
                    Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                    Type::CUDNN_TYPE_CHAR,
                    properties.as_bytes(),
                )?
                .finished()?;
            let name = Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP;
            (whole, heuristics.set_descriptor(name, &properties)?)
        }
    };
    let steps: Vec<sys::cudnnBackendDescriptor_t> = steps.iter().map(|step| step.0).collect();
    let whole = whole
        .set(
            Name::CUDNN_ATTR_OPERATIONGRAPH_OPS,
            Type::CUDNN_TYPE_BACKEND_DESCRIPTOR,
            &steps,
        )?
        .finished()?;
    let heuristics = heuristics
        .set_descriptor(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &whole)?
        .set(
            Name::CUDNN_ATTR_ENGINEHEUR_MODE,
            Type::CUDNN_TYPE_HEUR_MODE,
            &[sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A],
        )?
        .finished()?;
    let name = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
    let of = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
    let found: Vec<Descriptor> = (0..heuristics.count(name, of)?)
        .map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
        .collect::<Result<_, _>>()?;
    let mut room: Vec<sys::cudnnBackendDescriptor_t> = found.iter().map(|one| one.0).collect();
    let count = heuristics.get(name, of, &mut room)?;
    let found: Vec<Descriptor> = found.into_iter().take(count).collect();
    match found.is_empty() {
        true => Err("cuDNN has nothing for this size on this card".to_owned()),
        false => Ok((whole, found)),
    }
}

impl Plan {
    /// The first that cuDNN can make of its proposals; kernels are compiled for it where that needs be.
    ///
    /// # Errors
    /// What cuDNN says of the last of them.
    pub(super) fn new(handle: sys::cudnnHandle_t, graph: &Graph) -> Result<Self, String> {
        let (whole, choices) = choices(&Card::Here(handle), graph)?;
        let mut refused = String::new();
        for choice in &choices {
            match Self::of(handle, choice) {
                Ok((plan, workspace)) => {
                    let numbers = graph.arrays.iter().filter_map(|array| match array.place {
                        Place::Number(value) => Some((array.id, Box::new(value))),
                        _ => None,
                    });
                    return Ok(Self {
                        workspace,
                        plan,
                        numbers: numbers.collect(),
                        _graph: whole,
                    });
                }
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    fn of(handle: sys::cudnnHandle_t, choice: &Descriptor) -> Result<(Descriptor, usize), String> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
            .set(
                Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                Type::CUDNN_TYPE_HANDLE,
                &[handle],
            )?
            .set_descriptor(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, choice)?
            .finished()?;
        let mut bytes = [0_i64];
        plan.get(
            Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
            Type::CUDNN_TYPE_INT64,
            &mut bytes,
        )?;
        let bytes = usize::try_from(bytes[0]).map_err(|error| error.to_string())?;
        Ok((plan, bytes))
    }

    /// Runs it on the handle's stream.
    ///
    /// # Safety
    /// `memory` has the addresses of all arrays of the graph that are in memory, on the card of the handle and as
    /// the graph describes them; `workspace` is that of [`Plan::workspace`] bytes.
    #[expect(unsafe_code, reason = "calls cuDNN")]
    pub(super) unsafe fn run(
        &self,
        handle: sys::cudnnHandle_t,
        memory: &[(Id, u64)],
        workspace: u64,
    ) -> Result<(), String> {
        let on_card =
            |address: u64| std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
        let (mut ids, mut addresses): (Vec<Id>, Vec<*mut c_void>) = memory
            .iter()
            .map(|(id, address)| (*id, on_card(*address)))
            .unzip();
        for (id, value) in &self.numbers {
            ids.push(*id);
            addresses.push(std::ptr::from_ref::<f32>(value).cast_mut().cast());
        }
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
            .set(
                Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                Type::CUDNN_TYPE_INT64,
                &ids,
            )?
            .set(
                Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                Type::CUDNN_TYPE_VOID_PTR,
                &addresses,
            )?
            .set(
                Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                Type::CUDNN_TYPE_VOID_PTR,
                &[on_card(workspace)],
            )?
            .finished()?;
        // SAFETY: as of this function; what is read here is read before it returns.
        let status = unsafe { sys::cudnnBackendExecute(handle, self.plan.0, pack.0) };
        said(status, "running a plan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Heads;
    use crate::ops::flash::graph::{Sizes, Way};

    /// An H200 as cuDNN describes it.
    const H200: &str = r#"{"cudaDeviceId":0,"deviceVer":900,"driverVer":13000,"totalGlobalMem":150000000000,"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,"deviceName":"NVIDIA H200"}"#;

    /// The shapes of the models that are trained, through cuDNN's own judgement of what it can compute.
    #[test]
    #[ignore = "needs cuDNN and a CUDA driver (scripts/offline-card.sh brings one that computes nothing)"]
    fn cudnn_knows_a_kernel_for_the_graphs() {
        let card = Card::Described(H200.to_owned());
        for (query, key_value, dim) in [
            (12, 2, 128),
            (28, 4, 128),
            (40, 8, 128),
            (9, 3, 64),
            (8, 8, 64),
        ] {
            for (documents, tokens) in [(1, 128), (1, 16_384), (8, 4096), (64, 1024)] {
                let heads = Heads {
                    query,
                    key_value,
                    dim,
                };
                let sizes = Sizes {
                    heads,
                    documents,
                    tokens,
                };
                for way in [Way::Forward, Way::Backward] {
                    let found = choices(&card, &Graph::new(way, sizes));
                    assert!(found.is_ok(), "{way:?} {sizes:?}: {:?}", found.err());
                }
            }
        }
    }
}
