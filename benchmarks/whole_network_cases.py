"""The networks of `whole_networks.py`: how to build each, small, and what to call it with."""

import torch
from peers import import_torchvision, torchvision_with_operators

IDS = torch.randint(3, 200, (2, 10), generator=torch.Generator().manual_seed(0))
MASK = torch.ones(2, 10, dtype=torch.int64)
MASK[1, 7:] = 0
SMALL = {"vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = {**SMALL, "intermediate_size": 96}
SPEECH = {
    **BERT,
    "vocab_size": 32,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LLAMA = {**BERT, "num_key_value_heads": 2, "pad_token_id": 0}
EXPERTS = {**LLAMA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
SEEN = {
    **{"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "intermediate_size": 96},
}
SAID = {
    **{"d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 200},
}
NO_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def tokens(**more):
    """What a tokeniser returns: ids, and a mask: the last three of the second sentence are padding."""
    from transformers import BatchEncoding

    return BatchEncoding({"input_ids": IDS.clone(), "attention_mask": MASK.clone(), **more})


def hf(kind, head, inputs=tokens, **settings):
    """A network of transformers by the names of its configuration and its class."""

    def make():
        import_torchvision()
        import transformers

        config = getattr(transformers, f"{kind}Config")(**settings)
        return getattr(transformers, head)(config).eval(), inputs()

    return make


def pixels(size=32, **more):
    return lambda: {"pixel_values": torch.rand(2, 3, size, size), **more}


def clip():
    parts = {
        "text_config": {**BERT, "projection_dim": 32, "max_position_embeddings": 20, "eos_token_id": 2},
        "vision_config": {**SEEN, "projection_dim": 32},
    }
    inputs = lambda: {**tokens(), "pixel_values": torch.rand(2, 3, 32, 32)}  # noqa: E731
    return hf("CLIP", "CLIPModel", inputs, projection_dim=32, **parts)()


def siglip():
    parts = {
        "text_config": {**BERT, "projection_size": 48, "max_position_embeddings": 20},
        "vision_config": SEEN,
    }
    inputs = lambda: {**tokens(), "pixel_values": torch.rand(2, 3, 32, 32)}  # noqa: E731
    return hf("Siglip", "SiglipModel", inputs, **parts)()


def sound(size, channels=0):
    """Spectrograms, or waves, and the first words of the answer."""
    shape = (2, channels, size) if channels else (2, size)
    name = "input_features" if channels else "input_values"
    return lambda: {name: torch.rand(*shape), **({"decoder_input_ids": IDS[:, :5]} if channels else {})}


TEXT = {
    "bert": hf("Bert", "BertForSequenceClassification", **BERT),
    "bert masked words": hf("Bert", "BertForMaskedLM", **BERT),
    "bert questions": hf("Bert", "BertForQuestionAnswering", **BERT),
    "distilbert": hf(
        "DistilBert",
        "DistilBertForTokenClassification",
        vocab_size=200,
        dim=48,
        n_layers=2,
        n_heads=4,
        hidden_dim=96,
    ),
    "roberta": hf("Roberta", "RobertaForSequenceClassification", **BERT, pad_token_id=1),
    "electra": hf("Electra", "ElectraForSequenceClassification", **BERT, embedding_size=24),
    "albert": hf("Albert", "AlbertForSequenceClassification", **BERT, embedding_size=24),
    "deberta": hf(
        "DebertaV2",
        "DebertaV2ForSequenceClassification",
        **BERT,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
    ),
    "mpnet": hf("MPNet", "MPNetForSequenceClassification", **BERT),
    "gpt2": hf(
        "GPT2", "GPT2LMHeadModel", vocab_size=200, n_embd=48, n_layer=2, n_head=4, n_positions=20, **NO_TOKENS
    ),
    "gpt2 classes": hf(
        "GPT2",
        "GPT2ForSequenceClassification",
        vocab_size=200,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=20,
        **NO_TOKENS,
    ),
    "opt": hf("OPT", "OPTForCausalLM", **SMALL, ffn_dim=96, word_embed_proj_dim=48, **NO_TOKENS),
    "llama": hf("Llama", "LlamaForCausalLM", **LLAMA),
    "qwen2": hf("Qwen2", "Qwen2ForSequenceClassification", **LLAMA),
    "mixtral": hf("Mixtral", "MixtralForCausalLM", **LLAMA, num_local_experts=4),
    "qwen2moe": hf("Qwen2Moe", "Qwen2MoeForCausalLM", **EXPERTS, shared_expert_intermediate_size=64),
    "deepseek": hf(
        "DeepseekV3",
        "DeepseekV3ForCausalLM",
        **{**EXPERTS, "num_key_value_heads": 4},
        **{"n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 16, "q_lora_rank": 24},
        **{"qk_rope_head_dim": 8, "v_head_dim": 12, "qk_nope_head_dim": 8, "n_routed_experts": 4},
    ),
    "mamba": hf(
        "Mamba",
        "MambaForCausalLM",
        vocab_size=200,
        hidden_size=48,
        num_hidden_layers=2,
        state_size=8,
        **NO_TOKENS,
    ),
    "t5": hf(
        "T5",
        "T5ForConditionalGeneration",
        lambda: tokens(decoder_input_ids=IDS[:, :5]),
        vocab_size=200,
        d_model=48,
        d_kv=12,
        d_ff=96,
        num_layers=2,
        num_heads=4,
    ),
    "bart": hf(
        "Bart",
        "BartForConditionalGeneration",
        lambda: tokens(decoder_input_ids=IDS[:, :5]),
        **SAID,
        **NO_TOKENS,
        max_position_embeddings=32,
    ),
}
SIGHT = {
    "vit": hf("ViT", "ViTForImageClassification", pixels(), **SEEN),
    "deit": hf("DeiT", "DeiTForImageClassificationWithTeacher", pixels(), **SEEN),
    "beit": hf("Beit", "BeitForImageClassification", pixels(), **SEEN),
    "dinov2": hf("Dinov2", "Dinov2ForImageClassification", pixels(), **{**SEEN, "mlp_ratio": 2}),
    "swin v2": hf(
        "Swinv2",
        "Swinv2ForImageClassification",
        pixels(),
        image_size=32,
        patch_size=2,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "segformer": hf(
        "Segformer",
        "SegformerForSemanticSegmentation",
        pixels(64),
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
    ),
    "clip": clip,
    "siglip": siglip,
    "yolos": hf(
        "Yolos",
        "YolosForObjectDetection",
        pixels(),
        **{**SEEN, "image_size": [32, 32], "num_detection_tokens": 5},
    ),
    "whisper": hf(
        "Whisper",
        "WhisperForConditionalGeneration",
        sound(60, 20),
        **SAID,
        **NO_TOKENS,
        num_mel_bins=20,
        max_source_positions=30,
        max_target_positions=20,
        decoder_start_token_id=1,
    ),
    "wav2vec2": hf(
        "Wav2Vec2",
        "Wav2Vec2ForSequenceClassification",
        sound(400),
        **SPEECH,
    ),
    "hubert": hf(
        "Hubert",
        "HubertForSequenceClassification",
        sound(400),
        **SPEECH,
    ),
}


def detector(name, **settings):
    """A detector of torchvision with random weights, on two images of different sizes."""

    def make():
        models = torchvision_with_operators().models.detection
        model = getattr(models, name)(weights=None, weights_backbone=None, **settings).eval()
        return model, ([torch.rand(3, 80, 96), torch.rand(3, 64, 72)],)

    return make


def segments(name, side=64):
    def make():
        models = torchvision_with_operators().models.segmentation
        return getattr(models, name)(weights=None, weights_backbone=None, num_classes=5).eval(), torch.rand(
            1, 3, side, side
        )

    return make


SIZE = {"min_size": 64, "max_size": 96, "num_classes": 4}
# Random weights find little: every score counts, and few boxes go on.
FEW = {
    "box_score_thresh": 0.0,
    "rpn_pre_nms_top_n_test": 30,
    "rpn_post_nms_top_n_test": 10,
    "box_detections_per_img": 4,
}
LOW = {"score_thresh": 0.0, "topk_candidates": 20, "detections_per_img": 5}
SCENES = {
    "fasterrcnn mobilenet": detector("fasterrcnn_mobilenet_v3_large_320_fpn", **SIZE, **FEW),
    "fasterrcnn resnet50": detector("fasterrcnn_resnet50_fpn", **SIZE, **FEW),
    "maskrcnn resnet50": detector("maskrcnn_resnet50_fpn", **SIZE, **FEW),
    "keypointrcnn resnet50": detector("keypointrcnn_resnet50_fpn", **{**SIZE, "num_classes": 2}, **FEW),
    "retinanet resnet50": detector("retinanet_resnet50_fpn", **SIZE, **LOW),
    "fcos resnet50": detector("fcos_resnet50_fpn", **SIZE, **LOW),
    "ssdlite mobilenet": detector("ssdlite320_mobilenet_v3_large", num_classes=4, **LOW),
    "ssd vgg16": detector("ssd300_vgg16", num_classes=4, **LOW),
    "deeplabv3 mobilenet": segments("deeplabv3_mobilenet_v3_large"),
    "lraspp mobilenet": segments("lraspp_mobilenet_v3_large"),
    "fcn resnet50": segments("fcn_resnet50"),
}
CASES = {**TEXT, **SIGHT, **SCENES}
# Networks that return features beside their answer: pruned once more with the answer named.
ANSWERS = {
    **{"t5": "logits", "bart": "logits", "whisper": "logits", "yolos": "logits"},
    **{"clip": "logits_per_image", "siglip": "logits_per_image"},
}
