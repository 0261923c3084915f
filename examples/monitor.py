"""Train a small diffusion model as the example scripts of diffusers do, with a monitor: the three lines are marked.

python examples/monitor.py pictures/images pictures/held_out --steps 2000
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch.nn.functional import mse_loss

import pointland
from pointland.data.folder import Folder
from pointland.data.picture import Picture
from pointland.data.source import pictures


def main() -> None:
    """Train; the command line says on what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("trained"))
    settings = parser.parse_args()

    source = Folder(settings.train)
    read = [one for _, one in pictures(source, source.items(), (32, 32)) if isinstance(one, Picture)]
    images = torch.stack([torch.from_numpy(one.pixels) for one in read]).float() / 127.5 - 1

    unet = UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    scheduler = DDPMScheduler()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    pipe = DDPMPipeline(unet, scheduler)
    monitor = pointland.Monitor(settings.train, settings.held_out, every=settings.every)  # 1

    for step in range(1, settings.steps + 1):
        x = images[torch.randint(len(images), (32,))]
        noise, t = torch.randn_like(x), torch.randint(scheduler.config.num_train_timesteps, (len(x),))
        loss = mse_loss(unet(scheduler.add_noise(x, noise, t), t).sample, noise)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

        reading = monitor(step, pipe)  # 2
        if reading:
            print(f"step {step}: gap {reading.gap:.1f} dimensions ({reading.low:.1f} to {reading.high:.1f})")
            pipe.save_pretrained(settings.out / f"checkpoint-{step}")
        if monitor.alarmed:  # 3
            print(f"memorizing; keep the checkpoint of step {monitor.recommended_step}")
            break


if __name__ == "__main__":
    main()
