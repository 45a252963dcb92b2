import sys,torch,time
from pathlib import Path
torch.set_num_threads(1)
from material import *; from decoder import *; import decoder
m=read_material(Path('/work/shared')); print(len(m.words),len(m.train),len(m.held_out),len(m.texts))
t=decoder.make_tokenizer(m); print(len(t), sum(len(t.encode(' '+w))==1 for w in m.words))
x='<reason>[1] [3] [2]</reason>\n<answer>\n```json\n{"[1]": 10, "[2]": 3, "[20]": 0}\n```\n</answer>'
print(t.tokenize(x), t.decode(t.encode(x))==x)
t0=time.time()
pretrain(Path(sys.argv[2]),m,steps=int(sys.argv[1]),seed=0,log=lambda s:print(round(time.time()-t0),s,flush=True))
