//! The weights of a decoder one by one, each with its place in a Hugging Face file: what saving, training and adapters walk.
//!
//! Always: every weight once, in the order of the forward pass; a tied unembedding is the embedding and has no slot.

use candle_core::Tensor;

use super::{
    names::{Outer, Place, Role, Scheme, Take, layer_place, outer_stem},
    weights::{LayerWeights, Linear, NormWeights, Weights},
};
use crate::config::ModelConfig;

/// One weight and where a Hugging Face file keeps it.
pub(super) struct Slot<'a> {
    /// The stored tensor, and the cut that makes this weight.
    pub place: Place,
    /// Its role in a layer; none outside the layers.
    pub role: Option<Role>,
    /// The weight.
    pub tensor: &'a mut Tensor,
}

impl Slot<'_> {
    /// The stored tensor's name; a piece of a fused tensor adds which in brackets: `…c_attn.weight[q]`.
    pub fn name(&self) -> String {
        let name = &self.place.name;
        match (self.role, self.place.take) {
            (Some(role), Take::Rows(_) | Take::ColumnsTransposed(_) | Take::NeoxQkv(_)) => {
                format!("{name}[{}]", piece(role))
            }
            _ => name.clone(),
        }
    }
}

/// What a piece of a fused tensor is called.
pub(super) fn piece(role: Role) -> &'static str {
    match role {
        Role::Q => "q",
        Role::K => "k",
        Role::V => "v",
        Role::Gate => "gate",
        Role::Up => "up",
        _ => "part",
    }
}

/// All weights.
pub(super) fn slots<'a>(weights: &'a mut Weights, config: &ModelConfig) -> Vec<Slot<'a>> {
    let mut all = Walk {
        config,
        slots: Vec::new(),
    };
    all.outer(Outer::Embed, "weight", &mut weights.embed);
    if let Some(positions) = &mut weights.pos_embed {
        all.outer(Outer::PosEmbed, "weight", positions);
    }
    for (i, layer) in weights.layers.iter_mut().enumerate() {
        all.layer(i, layer);
    }
    let NormWeights { gain, bias } = &mut weights.final_norm;
    all.outer(Outer::FinalNorm, "weight", gain);
    if let Some(bias) = bias {
        all.outer(Outer::FinalNorm, "bias", bias);
    }
    if !config.tied {
        all.outer(Outer::Head, "weight", &mut weights.head);
    }
    all.slots
}

/// The linear layers of a block that it has.
pub(super) fn linears(layer: &mut LayerWeights) -> Vec<(Role, &mut Linear)> {
    let mut all = vec![
        (Role::Q, &mut layer.q),
        (Role::K, &mut layer.k),
        (Role::V, &mut layer.v),
        (Role::O, &mut layer.o),
    ];
    all.extend(layer.gate.as_mut().map(|gate| (Role::Gate, gate)));
    all.extend([(Role::Up, &mut layer.up), (Role::Down, &mut layer.down)]);
    all
}

struct Walk<'a, 'c> {
    config: &'c ModelConfig,
    slots: Vec<Slot<'a>>,
}

impl<'a> Walk<'a, '_> {
    fn outer(&mut self, what: Outer, part: &str, tensor: &'a mut Tensor) {
        let stem = outer_stem(self.config, Scheme::HuggingFace, what);
        let place = Place {
            name: format!("{stem}.{part}"),
            take: Take::All,
        };
        self.slots.push(Slot {
            place,
            role: None,
            tensor,
        });
    }

    fn put(&mut self, layer: usize, role: Role, part: &str, tensor: &'a mut Tensor) {
        let place = layer_place(self.config, Scheme::HuggingFace, layer, role, part);
        self.slots.push(Slot {
            place,
            role: Some(role),
            tensor,
        });
    }

    fn norm(&mut self, i: usize, role: Role, norm: Option<&'a mut NormWeights>) {
        if let Some(NormWeights { gain, bias }) = norm {
            self.put(i, role, "weight", gain);
            if let Some(bias) = bias {
                self.put(i, role, "bias", bias);
            }
        }
    }

    fn linear(&mut self, i: usize, role: Role, linear: Option<&'a mut Linear>) {
        if let Some(Linear { weight, bias, .. }) = linear {
            self.put(i, role, "weight", weight);
            if let Some(bias) = bias {
                self.put(i, role, "bias", bias);
            }
        }
    }

    fn layer(&mut self, i: usize, layer: &'a mut LayerWeights) {
        let LayerWeights {
            attn_norm,
            q,
            k,
            v,
            o,
            q_norm,
            k_norm,
            attn_post_norm,
            mlp_norm,
            gate,
            up,
            down,
            mlp_post_norm,
        } = layer;
        self.norm(i, Role::AttnNorm, attn_norm.as_mut());
        for (role, linear) in [(Role::Q, q), (Role::K, k), (Role::V, v), (Role::O, o)] {
            self.linear(i, role, Some(linear));
        }
        for (role, gain) in [(Role::QNorm, q_norm), (Role::KNorm, k_norm)] {
            if let Some(gain) = gain {
                self.put(i, role, "weight", gain);
            }
        }
        self.norm(i, Role::AttnPostNorm, attn_post_norm.as_mut());
        self.norm(i, Role::MlpNorm, mlp_norm.as_mut());
        self.linear(i, Role::Gate, gate.as_mut());
        self.linear(i, Role::Up, Some(up));
        self.linear(i, Role::Down, Some(down));
        self.norm(i, Role::MlpPostNorm, mlp_post_norm.as_mut());
    }
}
