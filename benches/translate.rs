//! What does a streamed text event cost in the translate lane, for every ordered pair?
#![allow(clippy::unwrap_used, reason = "a bench that cannot begin has nothing to measure")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use sub2api::wire::{
    WireFormat::{self, Anthropic, Gemini, OpenaiChat, OpenaiResponses},
    tap::Shape,
    translate::{Context, ReplyTranslator},
};

const EVENTS: usize = 1_000;

fn opening(format: WireFormat) -> &'static str {
    match format {
        OpenaiChat | Gemini => "",
        OpenaiResponses => {
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"m\"}}\n\n"
        }
        Anthropic => {
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"content\":[]}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
        }
    }
}

fn delta(format: WireFormat) -> &'static str {
    match format {
        OpenaiChat => {
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a few words\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
        }
        OpenaiResponses => {
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":5,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" a few words\",\"logprobs\":[]}\n\n"
        }
        Anthropic => {
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" a few words\"}}\n\n"
        }
        Gemini => {
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" a few words\"}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"m\",\"responseId\":\"r\"}\r\n\r\n"
        }
    }
}

fn text_deltas(c: &mut Criterion) {
    let all = [OpenaiChat, OpenaiResponses, Anthropic, Gemini];
    let mut group = c.benchmark_group("text delta");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for from in all {
        for to in all.into_iter().filter(|to| *to != from) {
            let begun = || {
                let mut translator =
                    ReplyTranslator::new(from, to, (Shape::Sse, Shape::Sse), Context::for_unknown_client()).unwrap();
                translator.feed(opening(from).as_bytes());
                translator
            };
            group.bench_function(format!("{} to {}", from.name(), to.name()), |b| {
                b.iter_batched(
                    begun,
                    |mut translator| {
                        for _ in 0..EVENTS {
                            black_box(translator.feed(delta(from).as_bytes()));
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, text_deltas);
criterion_main!(benches);
