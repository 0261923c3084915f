"""Audit the bundled miniature from Python: the README's example."""

import pointland

model = pointland.load("src/pointland/demo/miniature")
run = pointland.audit(model, "pictures/images", reference="pictures/held_out", out="run")
print(pointland.summarize(run)["verdict"]["headline"])
print(pointland.write_report("run"))
