import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests are too small to gain from threads, and must not crowd the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
