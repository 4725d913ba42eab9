//! Records that no file holds, and others' files may: that they are read, and mean what they say.

use serde_json::{Value, json};

use crate::{
    chainer,
    json::Node,
    report::{Case, Checked},
    torch,
};

/// Checks each of them, and that one with a wrong scale is not taken.
pub(crate) fn check() -> Checked {
    let mut case = Case::default();
    chainer::check(Node::root(&negative_infinity("-inf")), &mut case)?;
    let unknown = chainer::check(Node::root(&negative_infinity("-nan")), &mut case);
    case.holds("an injection of another name is refused", unknown.is_err())?;
    for log2 in [-127, 127] {
        torch::check(Node::root(&beyond_scales(log2, log2)), &mut case)?;
        let wrong = torch::check(Node::root(&beyond_scales(log2, log2 + 2)), &mut case);
        case.holds("a scale that nothing explains is refused", wrong.is_err())?;
    }
    Ok(())
}

/// One step of Chainer's, into whose gradient negative infinity was written.
fn negative_infinity(injected: &str) -> Value {
    let one = json!({"hex": "0x1.0000000000000p+0"});
    let params = json!({"dtype": "f32", "shape": [2], "bits": "3f800000c0000000"});
    json!({
        "interval": 1, "interval_is_inf": false, "loss_scale_max": 65504,
        "multiplier": {"hex": "0x1.0000000000000p+1"},
        "dtype": "float32", "use_fp32_update": false,
        "optimizer": "MomentumSGD lr=0.125 momentum=0.5",
        "steps": [{
            "injected": injected, "t": 1,
            "scale_before": one, "scale_after": one, // no scale of Chainer's is below 1
            "grad_after_backward": {"dtype": "f32", "shape": [2], "bits": "3e8000003f000000"},
            "param_before": params, "param_after": params, "params_changed": false,
        }],
    })
}

/// One clean step of PyTorch's at a scale that is none here, and where it is afterwards.
fn beyond_scales(log2: i32, after_log2: i32) -> Value {
    let power = |log2: i32| json!({"hex": format!("0x1.0000000000000p{log2:+}")});
    let scaled = json!([format!("0x1.0000000000000p{:+}", log2 - 9)]);
    let unscaled = json!(["0x1.0000000000000p-9"]);
    let two = power(1);
    json!({
        "init_scale": power(log2), "growth_factor": 2.0, "backoff_factor": 0.5,
        "growth_interval": 4, "optimizer": "sgd lr=0.125", "explicit_unscale": false,
        "steps": [{
            "scale_before": power(log2), "scale_after": power(after_log2),
            "grads_scaled": scaled, "grads_seen_before_step_call": scaled,
            "grads_after_step_call": unscaled,
            "params_changed": true, "params_after": ["0x1.0000000000000p+0"],
            "growth_tracker_after": 1,
            "state_dict_after": {
                "scale": power(after_log2), "growth_factor": two,
                "backoff_factor": power(-1), "growth_interval": 4, "_growth_tracker": 1,
            },
        }],
    })
}
